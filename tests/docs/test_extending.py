"""The extensions of docs/extending.md work in a repository of their own with an installed wheel of this project."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.docs.documents import blocks, run_bash, script

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
    environment = _install_wheel(repository, tmp_path)
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


def _install_wheel(repository, folder):
    """Environment variables of a virtual environment with the wheel, and with the dependencies that are here."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels", repository],
        check=True,
    )
    (wheel,) = (folder / "wheels").glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel], check=True
    )
    # Packages that the tests' own interpreter sees, except this checkout. They come after the wheel.
    paths = [path for path in sys.path if path.endswith("site-packages")] or [sysconfig.get_path("purelib")]
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in paths), "utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "PYTHONPATH"))}
    return kept | {
        "PATH": f"{folder / 'venv' / 'bin'}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(folder / "venv"),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
    }
