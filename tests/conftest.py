"""Setup of all tests: eight fake CPU devices, fast compilation, and array shapes checked at run time."""

import os
from importlib.metadata import version
from pathlib import Path

os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # no test reuses a program of another one
os.environ["JAX_PLATFORMS"] = "cpu"  # both must be set before jax is imported for the first time
# Threads of XLA's pools. With fewer threads than devices, as on two cores, waiting devices can occupy all of them.
os.environ.setdefault("NPROC", "16")
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        # A test's program is small and runs a few times, so that most of its time is spent on compiling it. Compiled
        # like this it takes a fifth of that to compile (and two to three times as long to run).
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_use_fusion_emitters=false" * version("jax").startswith("0.10."),  # removed in later ones
    )
).strip()

import pytest
from jaxtyping import install_import_hook

# Checks each jaxtyping signature when it is called. The tower lets an int pass where a float is asked for.
install_import_hook("flaxformer_lite", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The directory of the real data sets that some tests use."""
    folder = os.environ.get("FLAXFORMER_LITE_DATA", "")
    if not Path(folder).is_dir() or not folder:
        pytest.skip(f"FLAXFORMER_LITE_DATA={folder!r} names no folder with multi30k/ and the like")
    return Path(folder)


@pytest.fixture(autouse=True)
def messages_on_stderr() -> None:
    """The package's messages go to standard error, as the command line configures it."""
    from flaxformer_lite.system.console import configure_logging

    configure_logging()
