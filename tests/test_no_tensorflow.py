"""TensorFlow is neither required nor imported, from the flags to the last checkpoint."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib

from tests.micro_config import flags

_TRAIN = """
import importlib, pkgutil, sys
import flaxformer_lite
for module in pkgutil.walk_packages(flaxformer_lite.__path__, "flaxformer_lite."):
    importlib.import_module(module.name)
from flaxformer_lite.cli.main import main
code = main(["train", f"--workdir={sys.argv[1]}", *sys.argv[2:]])
assert code == 0, code
found = [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "tensorflow_text")]
assert not found, found
"""


def test_no_dependency_is_tensorflow(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    project["optional-dependencies"].pop("hf")  # only the tests require it, to compare with PyTorch's models
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [line for group in groups for line in group]
    names = {re.split(r"[\W]", line.replace("-", "_"))[0] for line in wanted}
    assert "tensorflow_datasets" in names  # it works without TensorFlow, so the names were parsed
    assert not names & {"tensorflow", "tensorflow_cpu", "tensorflow_text", "tf_nightly", "torch", "seqio"}
    assert importlib.util.find_spec("tensorflow") is None


def test_training_imports_no_tensorflow(repository, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", _TRAIN, tmp_path / "run", *flags({"train.steps": 2, "optim.warmup_steps": 1})],
        cwd=repository,
        env=os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
