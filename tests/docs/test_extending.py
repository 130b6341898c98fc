"""The extensions of docs/extending.md work in a repository of their own with an installed wheel of this project."""

import subprocess
from pathlib import Path

import pytest

from tests.docs.documents import blocks, run_bash, script
from tests.wheel import install_wheel

_EXTENSIONS = ("encoder", "task", "metric", "processor", "loss")


@pytest.fixture
def extending(repository):
    return list(blocks(repository / "docs" / "extending.md"))


def test_each_extension_has_less_than_40_lines(extending):
    lengths = {block.file: block.code.count("\n") for block in extending if block.file.startswith("my_seq2seq/")}
    assert {Path(name).stem for name in lengths} == set(_EXTENSIONS)
    assert max(lengths.values()) < 40


@pytest.mark.slow
def test_extensions_run_with_an_installed_wheel(repository, extending, tmp_path):
    environment = install_wheel(repository, tmp_path)
    folder = tmp_path / "my_repository"
    folder.mkdir()
    run_bash(script([block for block in extending if block.mode in ("file", "slow")]), folder, environment)
    assert (folder / "runs" / "mine" / "finished.json").is_file()

    (folder / "my_seq2seq").rename(folder / "elsewhere")
    command = ["flaxformer-lite", "decode", "--workdir=runs/mine"]
    failed = subprocess.run(
        command, cwd=folder, env=environment, input="abc\n", capture_output=True, text=True, check=False
    )
    assert failed.returncode == 2
    assert "there is no module my_seq2seq" in failed.stderr
