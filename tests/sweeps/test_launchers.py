"""Jobs in real processes that submitit starts, and Slurm jobs with fakes of Slurm's commands."""

import os
import signal
import time
from pathlib import Path

import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps.launchers import LocalLauncher, SlurmLauncher
from flaxformer_lite.sweeps.trial_dir import Submission, TrialDir
from tests.sweeps.fake_jobs import crashing, failing, sleeper


@pytest.fixture(autouse=True)
def importable(repository, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(repository))


@pytest.fixture
def folder(tmp_path):
    folder = TrialDir(tmp_path / "trial")
    yield folder
    if holder := folder.job_process():  # the test failed
        os.kill(holder.pid, signal.SIGKILL)


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)
    return found


def started(folder, times=1):
    """The lines that started jobs wrote, as soon as there are ``times`` of them."""

    def lines():
        path = folder.path / "started"
        found = path.read_text().splitlines() if path.exists() else []
        return found if len(found) == times else None

    return wait_for(lines)


def test_a_job_applies_its_resources_and_saves_when_stopped(tmp_path, folder):
    launcher = LocalLauncher(tmp_path / "jobs", 1)
    submission = Submission("local", launcher.submit(sleeper(folder.path)), 0)
    (line,) = started(folder)
    holder = folder.job_process()
    assert line == f"{holder.pid} [{max(os.sched_getaffinity(0))}] yes 1"
    assert not launcher.is_over(submission)
    # Ctrl-C in the terminal reaches neither the job nor submitit's controller process.
    assert os.getsid(holder.pid) == holder.pid
    status = Path(f"/proc/{submission.id}/status").read_text()
    blocked = int(status.split("SigBlk:")[1].split()[0], 16)
    assert blocked >> (signal.SIGINT - 1) & 1

    again = Submission("local", launcher.submit(sleeper(folder.path)), 0)  # the directory is locked
    wait_for(lambda: launcher.is_over(again))
    assert folder.job_process() == holder

    second_call = LocalLauncher(tmp_path / "jobs", 1)
    assert second_call.is_over(submission), "jobs of an earlier call are found by their lock alone"
    assert second_call.stop(folder, submission, kill=False)
    wait_for(lambda: launcher.is_over(submission))
    assert (folder.path / "saved").exists()
    assert folder.job_process() is None
    assert folder.failure.read() is None
    assert not second_call.stop(folder, submission, kill=False)
    assert len(started(folder)) == 1


def test_a_failed_job_keeps_its_log_and_message(tmp_path, folder):
    launcher = LocalLauncher(tmp_path / "jobs", 2)
    other = TrialDir(tmp_path / "other")
    ids = [launcher.submit(failing(folder.path, "no such file")), launcher.submit(crashing(other.path, "by nothing"))]
    wait_for(lambda: all(launcher.is_over(Submission("local", id, 0)) for id in ids))
    assert folder.failure.read() == (2, "no such file")
    assert "flaxformer-lite: error: no such file\n" in folder.log.read_text()
    assert "Traceback" not in folder.log.read_text()
    assert other.failure.read() == (1, "ZeroDivisionError: by nothing")
    assert "Traceback" in other.log.read_text()


_SLURM = {
    # Runs the script in the background as job 7.
    "sbatch": """
      [ -z "$REFUSE" ] || { echo "$REFUSE" >&2; exit 1; }
      echo "$1" > "$STATE/7.script"; cp "$1" "$STATE/seen"
      SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_NTASKS=1 setsid bash "$1" > /dev/null 2>&1 &
      echo "Submitted batch job 7"
    """,
    "srun": 'echo $$ > "$STATE/7.pid"; shift 5; exec "$@"',
    "scontrol": """
      echo "$*" >> "$STATE/commands"
      SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_NTASKS=1 setsid bash "$(cat "$STATE/7.script")" > /dev/null 2>&1 &
    """,
    "scancel": 'echo "$*" >> "$STATE/commands"; [ "$1" != --signal=TERM ] || kill -TERM "$(cat "$STATE/7.pid")"',
    "sacct": "exit 0",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    for name, script in _SLURM.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(tmp_path))
    return tmp_path


def test_a_preempted_slurm_job_saves_and_resumes(slurm, folder):
    launcher = SlurmLauncher(slurm / "jobs", 3, {"partition": "gpu", "gpus_per_node": 1})
    submission = Submission("slurm", launcher.submit(sleeper(folder.path)), 0)
    assert submission.id == "7"
    script = (slurm / "seen").read_text()
    assert all(f"#SBATCH --{line}\n" in script for line in ("partition=gpu", "gpus-per-node=1", "time=1440"))
    started(folder)
    assert not launcher.is_over(submission)

    os.kill(folder.job_process().pid, signal.SIGUSR2)  # as Slurm does at the time limit or for preemption
    first, second = started(folder, times=2)
    assert (folder.path / "saved").exists()
    assert first.split()[0] != second.split()[0]

    assert launcher.stop(folder, submission, kill=False)
    wait_for(lambda: launcher.is_over(submission))
    assert (slurm / "commands").read_text().splitlines() == ["requeue 7", "--state=PENDING 7", "--signal=TERM 7"]
    assert folder.job_process() is None


def test_slurm_errors_are_input_errors(slurm, folder, monkeypatch):
    with pytest.raises(
        InputError, match=r"launcher 'slurm': there is no parameter 'partiton'; did you mean partition\?"
    ):
        SlurmLauncher(slurm / "jobs", 3, {"partiton": "gpu"})
    monkeypatch.setenv("REFUSE", "invalid partition specified: gpu")
    with pytest.raises(InputError, match="sbatch refused the job: invalid partition specified: gpu"):
        SlurmLauncher(slurm / "jobs", 3, {}).submit(sleeper(folder.path))


def test_a_machine_without_slurm_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"launcher 'slurm': there is no sbatch on this machine"):
        SlurmLauncher(tmp_path, 3, {})
