"""The launch script starts what it says, with a stand-in for Slurm."""

import os
import subprocess

import pytest


@pytest.fixture
def checkout(tmp_path):
    """A folder with an environment and a stand-in for ``srun`` that says what it was asked."""
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


def test_slurm_starts_the_command_with_all_that_was_said(checkout, repository):
    ended = launch(checkout, repository, "configs/a b.py", "/shared/run", "--config.mesh.fsdp=8")
    assert ended.returncode == 7  # as the processes say
    activated, *options, command, name, distributed, config, workdir, override = ended.stdout.splitlines()
    assert (activated, command, name, distributed) == ("yes", "flaxformer-lite", "train", "--distributed")
    assert all(option.startswith("--") for option in options)
    assert (config, workdir) == ("--config=configs/a b.py", "--workdir=/shared/run")
    assert override == "--config.mesh.fsdp=8"


def test_what_is_missing_is_named(checkout, repository):
    ended = launch(checkout, repository, "configs/tiny.py")
    assert ended.returncode
    assert "name a work folder on a file system that all machines share" in ended.stderr
