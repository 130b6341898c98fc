import json
import os
import subprocess
import sys

import pytest

from flaxformer_lite.cli import main as cli
from flaxformer_lite.data.vocabularies.character_word import WordVocabulary
from tests.micro_config import flags


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--chip=h10",), "--chip=h10: is none of the known chips a100, h100, h200, v5e, v5p, v6e; did you mean h100?"),
        (("--mesh=data=4,fdsp=2",), "'fdsp=2' is not AXIS=SIZE"),
        (("--mesh=data=0",), "'data=0' is not AXIS=SIZE"),
        (("--mesh=data=3",), "config.mesh.data=3, config.mesh.fsdp=1, config.mesh.tensor=1: make a mesh of 3 devices"),
        (("--devices=0",), "--devices=0: must be at least 1"),
        (("--source_vocabulary=32",), "--target_vocabulary: its size depends on the data"),
    ],
)
def test_invalid_input_is_one_message(words, message, capsys):
    assert cli.main(["plan", *flags(), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_more_devices_than_exist(repository):
    """In a subprocess, because jax initializes its devices only once."""
    words = ["plan", *flags({"train.batch_size": 48}), "--devices=12", "--mesh=data=-1,fsdp=2", "--json", "--chip=v5e"]
    code = f"import sys; from flaxformer_lite.cli.main import main; sys.exit(main({words!r}))"
    env = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert plan["devices"] == 12
    assert plan["mesh"] == {"data": 6, "fsdp": 2, "tensor": 1}
    assert plan["chip"]["name"] == "v5e"
    assert plan["fits"]
    assert 0 < plan["sizes"]["padding"] < 1


def test_vocabulary_sizes_may_be_given(tmp_path, capsys):
    saved = WordVocabulary([str(i) for i in range(68)])
    (tmp_path / "saved.json").write_text(json.dumps(saved.to_json()))
    target = {"data.target_vocabulary.kind": "saved", "data.target_vocabulary.model": tmp_path / "saved.json"}
    words = ["plan", *flags({"data.task": "text"} | target), "--devices=8", "--source_vocabulary=64"]
    assert cli.main([*words, "--mesh=data=2,fsdp=2,tensor=2"]) == 0
    shown = capsys.readouterr().out
    assert "8 h100, data 2 × fsdp 2 × tensor 2" in shown
    assert "vocabularies of 64 and 72" in shown
