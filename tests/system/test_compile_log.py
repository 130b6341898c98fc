"""Messages about compilation, and the limit on the number of programs."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.system.compile_log import LoggedJit


def add(state, batch):
    return state["total"] + batch.sum()


def state(dtype="float32"):
    return {"total": jnp.zeros(3, dtype)}


def test_each_shape_is_announced_once(capsys):
    run = LoggedJit(jax.jit(add), "sum")
    for rows in (2, 4, 2, 4):
        np.testing.assert_array_equal(run(state(), jnp.ones((rows, 5))), [5 * rows] * 3)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("compiled in ")] == [
        "compiling the sum for 2×5 …",
        "compiling the sum for 4×5 …",
    ]
    assert len(lines) == 4


def test_compiling_again_for_the_same_shapes_names_what_changed(capsys):
    run = LoggedJit(jax.jit(add), "sum")
    run(state(), jnp.ones((2, 5)))
    run(state(), jnp.ones((2, 5)))
    capsys.readouterr()
    run(state("int32"), jnp.ones((2, 5)))
    stderr = capsys.readouterr().err
    assert "compiled the sum again" in stderr
    assert "state.total: float32[3]" in stderr
    assert "→ int32[3]" in stderr
    assert "batch" not in stderr
    run(state("int32"), jnp.ones((2, 5)))
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("last", "why"), [(((3, 5), "float32"), "for 3×5"), (((2, 5), "int32"), r"again \(batch: float32")]
)
def test_a_program_beyond_the_limit_is_an_error(last, why):
    run = LoggedJit(jax.jit(add), "sum", limit=2)
    for shape in ((2, 5), (4, 5), (2, 5)):
        run(state(), jnp.ones(shape))
    with pytest.raises(InputError, match=rf"config\.train\.max_compiles=2: the sum is compiled once more, {why}"):
        run(state(), jnp.ones(*last))


_PROGRAM = """
from flaxformer_lite.system.cache_dir import enable_compilation_cache
enable_compilation_cache()
import jax, jax.numpy as jnp
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.system.console import configure_logging
configure_logging()
LoggedJit(jax.jit(lambda state, batch: jnp.sin(state) @ batch), "product")(jnp.ones((3, 3)), jnp.ones((3, 4)))
"""


def test_a_second_start_compiles_nothing(tmp_path, repository):
    """Programs are kept in the user's cache directory."""
    names = ("JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR")
    home = {name: value for name, value in os.environ.items() if name not in names} | {"XDG_CACHE_HOME": str(tmp_path)}
    first, second = (
        subprocess.run([sys.executable, "-c", _PROGRAM], env=home, cwd=repository, capture_output=True, text=True)
        for _ in range(2)
    )
    assert "compiled in" in first.stderr
    assert "loaded in" in second.stderr
    assert "compiled in" not in second.stderr
    assert list((tmp_path / "flaxformer_lite" / "compiled").iterdir())


def test_a_home_that_cannot_be_written_to_is_no_error(tmp_path, repository):
    (tmp_path / "file").write_text("")
    home = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "file"), "JAX_ENABLE_COMPILATION_CACHE": "true"}
    found = subprocess.run([sys.executable, "-c", _PROGRAM], env=home, cwd=repository, capture_output=True, text=True)
    assert found.returncode == 0
    assert "Warning" not in found.stderr
