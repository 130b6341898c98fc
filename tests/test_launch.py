"""The launch script, with a fake srun."""

import os
import subprocess

import pytest


@pytest.fixture
def checkout(tmp_path):
    """A directory with a virtual environment and a fake ``srun`` that prints its arguments."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("export ACTIVATED=yes\n")
    (tmp_path / "srun").write_text('#!/bin/bash\nprintf "%s\\n" "$ACTIVATED" "$@"\nexit 7\n')
    (tmp_path / "srun").chmod(0o755)
    return tmp_path


def launch(checkout, repository, *arguments):
    return subprocess.run(
        ["bash", repository / "launch" / "slurm.sbatch", *arguments],
        cwd=checkout,
        env=os.environ | {"PATH": f"{checkout}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_srun_starts_train_with_all_arguments(checkout, repository):
    ended = launch(checkout, repository, "configs/a b.py", "/shared/run", "--config.mesh.fsdp=8")
    assert ended.returncode == 7  # that of srun
    activated, *options, command, name, distributed, config, workdir, override = ended.stdout.splitlines()
    assert (activated, command, name, distributed) == ("yes", "flaxformer-lite", "train", "--distributed")
    assert all(option.startswith("--") for option in options)
    assert (config, workdir) == ("--config=configs/a b.py", "--workdir=/shared/run")
    assert override == "--config.mesh.fsdp=8"


def test_missing_arguments_are_named(checkout, repository):
    ended = launch(checkout, repository, "configs/tiny.py")
    assert ended.returncode
    assert "name a work directory on a file system that all machines share" in ended.stderr
