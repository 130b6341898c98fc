import json
import os
import subprocess
import sys

import pytest

from flaxformer_lite.cli import main as cli
from flaxformer_lite.data.vocabularies.character_word import WordVocabulary
from tests.micro_config import flags


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--chip=h10",), "--chip=h10: known are a100, h100, h200, v5e, v5p, v6e; did you mean h100?"),
        (("--mesh=data=4,fdsp=2",), "'fdsp=2' is no axis and its size"),
        (("--mesh=data=0",), "'data=0' is no axis and its size"),
        (("--mesh=data=3",), "config.mesh.data=3, config.mesh.fsdp=1, config.mesh.tensor=1 make a mesh of 3 devices"),
        (("--devices=0",), "--devices=0: give 1 or more"),
        (("--source_vocabulary=32",), "how large is the target vocabulary? Say --target_vocabulary="),
    ],
)
def test_what_cannot_be_is_named(words, said, capsys):
    assert cli.main(["plan", *flags(), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_more_devices_than_there_are(repository):
    """In a process of its own, since devices cannot be had once jax has begun."""
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


def test_sizes_can_be_given_instead_of_read(tmp_path, capsys):
    saved = WordVocabulary([str(i) for i in range(68)])
    (tmp_path / "saved.json").write_text(json.dumps(saved.to_json()))
    target = {"data.target_vocabulary.kind": "saved", "data.target_vocabulary.model": tmp_path / "saved.json"}
    words = ["plan", *flags({"data.task": "text"} | target), "--devices=8", "--source_vocabulary=64"]
    assert cli.main([*words, "--mesh=data=2,fsdp=2,tensor=2"]) == 0
    shown = capsys.readouterr().out
    assert "8 h100, data 2 × fsdp 2 × tensor 2" in shown
    assert "vocabularies of 64 and 72" in shown
