"""Peak memory of a conversion, which reads and writes one tensor at a time, measured in a separate process."""

import subprocess
import sys

import numpy as np
import pytest

from flaxformer_lite.interop import safetensors_io
from flaxformer_lite.interop.families.name_map import match_params
from flaxformer_lite.interop.importing import names_and_shapes
from tests.interop import tokenizer_files as files

_CONFIG = {
    **{"model_type": "t5", "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "tie_word_embeddings": True,
}
_MEASURED = """
import resource, sys
import jax
import orbax.checkpoint
from flaxformer_lite.interop import ctranslate2_export, exporting, importing, verify
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
    names, shapes = names_and_shapes("t5", config, "all")
    found = {match.tensor: match.layout.tensor_shape(match.shape) for match in match_params(names, shapes)}
    tensors = {
        name: safetensors_io.TensorInfo(tmp_path, shape, np.dtype(np.float32)) for name, shape in sorted(found.items())
    }
    rng = np.random.default_rng(0)
    safetensors_io.write_safetensors(
        tmp_path / "source", tensors, lambda name: rng.standard_normal(found[name], np.float32)
    )
    size = (tmp_path / "source/model.safetensors").stat().st_size
    assert 242e6 < size < 243e6, "T5-small, whose largest tensor is more than a quarter of the model"

    def peak_growth(*words):
        command = [sys.executable, "-c", _MEASURED, *words, "--verify=no"]
        return int(subprocess.run(command, check=True, capture_output=True, cwd=repository).stdout.split()[-1])

    shares = {
        "import": peak_growth("import", f"--source={tmp_path}/source", f"--workdir={tmp_path}/work") / size,
        "export": peak_growth("export", f"--workdir={tmp_path}/work", f"--target={tmp_path}/out") / size,
    }
    assert all(share < 1.5 for share in shares.values()), shares
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "source/model.safetensors").read_bytes()
