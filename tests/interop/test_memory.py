"""Weights go tensor by tensor: what a conversion takes, measured in a process of its own."""

import subprocess
import sys

import numpy as np
import pytest

from flaxformer_lite.interop import weights
from flaxformer_lite.interop.families.tensors import pairs
from flaxformer_lite.interop.importing import model_shapes
from tests.interop import tokenizer_files as files

_CONFIG = {
    **{"model_type": "t5", "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "tie_word_embeddings": True,
}
_MEASURED = """
import resource, sys
import jax
import orbax.checkpoint
from flaxformer_lite.interop import exporting, importing, proof, served
from flaxformer_lite.cli.main import main

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

jax.numpy.zeros(3).block_until_ready()
before = peak()
assert main(sys.argv[1:]) == 0
print(peak() - before)
"""


@pytest.mark.slow
def test_a_conversion_takes_less_than_one_and_a_half_times_the_model(tmp_path, repository):
    config = _CONFIG | files.t5(tmp_path / "source") | {"vocab_size": 32_128}
    files.write(tmp_path / "source", {"config.json": config})
    names, shapes = model_shapes("t5", config, "all")
    found = {pair.theirs: pair.layout.shape(pair.shape) for pair in pairs(names, shapes)}
    tensors = {name: weights.Tensor(tmp_path, shape, np.dtype(np.float32)) for name, shape in sorted(found.items())}
    rng = np.random.default_rng(0)
    weights.write(tmp_path / "source", tensors, lambda name: rng.standard_normal(found[name], np.float32))
    size = (tmp_path / "source/model.safetensors").stat().st_size
    assert 242e6 < size < 243e6, "of T5-small, where the largest tensor is more than a quarter of the model"

    def taken(*words):
        command = [sys.executable, "-c", _MEASURED, *words, "--proof=no"]
        return int(subprocess.run(command, check=True, capture_output=True, cwd=repository).stdout.split()[-1])

    shares = {
        "import": taken("import", f"--source={tmp_path}/source", f"--workdir={tmp_path}/work") / size,
        "export": taken("export", f"--workdir={tmp_path}/work", f"--target={tmp_path}/out") / size,
    }
    assert all(share < 1.5 for share in shares.values()), shares
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "source/model.safetensors").read_bytes()
