"""Real processes by submitit, and Slurm's with stand-ins for its commands."""

import os
import signal
import time
from pathlib import Path

import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps.launchers import Local, Slurm
from flaxformer_lite.sweeps.trial_dir import PointFolder, Ticket
from tests.sweeps.sleeping import crashing, failing, sleeper


@pytest.fixture(autouse=True)
def importable(repository, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(repository))


@pytest.fixture
def folder(tmp_path):
    folder = PointFolder(tmp_path / "point")
    yield folder
    if holder := folder.at_work():  # the test failed
        os.kill(holder.pid, signal.SIGKILL)


def until(what, seconds=20.0):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)
    return found


def begun(folder, times=1):
    """What the jobs that began said, once so many have."""

    def lines():
        path = folder.path / "begun"
        said = path.read_text().splitlines() if path.exists() else []
        return said if len(said) == times else None

    return until(lines)


def test_a_job_has_its_share_and_saves_when_it_is_stopped(tmp_path, folder):
    launcher = Local(tmp_path / "jobs", 1)
    ticket = Ticket("local", launcher.submit(sleeper(folder.path)), 0)
    (said,) = begun(folder)
    holder = folder.at_work()
    assert said == f"{holder.pid} [{max(os.sched_getaffinity(0))}] yes 1"
    assert not launcher.over(ticket)
    # Ctrl-C in the terminal reaches neither the job nor the process that submitit puts before it.
    assert os.getsid(holder.pid) == holder.pid
    status = Path(f"/proc/{ticket.id}/status").read_text()
    blocked = int(status.split("SigBlk:")[1].split()[0], 16)
    assert blocked >> (signal.SIGINT - 1) & 1

    again = Ticket("local", launcher.submit(sleeper(folder.path)), 0)  # it finds the place taken, and ends
    until(lambda: launcher.over(again))
    assert folder.at_work() == holder

    second_call = Local(tmp_path / "jobs", 1)
    assert second_call.over(ticket), "it knows of it by the lock alone"
    assert second_call.stop(folder, ticket, kill=False)
    until(lambda: launcher.over(ticket))
    assert (folder.path / "saved").exists()
    assert folder.at_work() is None
    assert folder.failure() is None
    assert not second_call.stop(folder, ticket, kill=False)
    assert len(begun(folder)) == 1


def test_what_fails_keeps_its_log(tmp_path, folder):
    launcher = Local(tmp_path / "jobs", 2)
    other = PointFolder(tmp_path / "other")
    ids = [launcher.submit(failing(folder.path, "no such file")), launcher.submit(crashing(other.path, "by nothing"))]
    until(lambda: all(launcher.over(Ticket("local", id, 0)) for id in ids))
    assert folder.failure() == (2, "no such file")
    assert "flaxformer-lite: error: no such file\n" in folder.log.read_text()
    assert "Traceback" not in folder.log.read_text()
    assert other.failure() == (1, "ZeroDivisionError: by nothing")
    assert "Traceback" in other.log.read_text()


_SLURM = {
    # Runs the script in the background, and knows it by a number.
    "sbatch": """
      [ -z "$REFUSE" ] || { echo "$REFUSE" >&2; exit 1; }
      echo "$1" > "$STATE/7.script"; cp "$1" "$STATE/seen"
      SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_NTASKS=1 setsid bash "$1" > /dev/null 2>&1 &
      echo "Submitted batch job 7"
    """,
    "srun": 'echo $$ > "$STATE/7.pid"; shift 5; exec "$@"',
    "scontrol": """
      echo "$*" >> "$STATE/said"
      SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_NTASKS=1 setsid bash "$(cat "$STATE/7.script")" > /dev/null 2>&1 &
    """,
    "scancel": 'echo "$*" >> "$STATE/said"; [ "$1" != --signal=TERM ] || kill -TERM "$(cat "$STATE/7.pid")"',
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


def test_a_job_that_slurm_takes_back_saves_and_goes_on(slurm, folder):
    launcher = Slurm(slurm / "jobs", 3, {"partition": "gpu", "gpus_per_node": 1})
    ticket = Ticket("slurm", launcher.submit(sleeper(folder.path)), 0)
    assert ticket.id == "7"
    script = (slurm / "seen").read_text()
    assert all(f"#SBATCH --{line}\n" in script for line in ("partition=gpu", "gpus-per-node=1", "time=1440"))
    begun(folder)
    assert not launcher.over(ticket)

    os.kill(folder.at_work().pid, signal.SIGUSR2)  # as Slurm does before the time is over, or for a more urgent job
    first, second = begun(folder, times=2)
    assert (folder.path / "saved").exists()
    assert first.split()[0] != second.split()[0]

    assert launcher.stop(folder, ticket, kill=False)
    until(lambda: launcher.over(ticket))
    assert (slurm / "said").read_text().splitlines() == ["requeue 7", "--state=PENDING 7", "--signal=TERM 7"]
    assert folder.at_work() is None


def test_what_slurm_refuses_is_said(slurm, folder, monkeypatch):
    with pytest.raises(InputError, match=r"--slurm=partiton: there is no such setting; did you mean partition\?"):
        Slurm(slurm / "jobs", 3, {"partiton": "gpu"})
    monkeypatch.setenv("REFUSE", "invalid partition specified: gpu")
    with pytest.raises(InputError, match="sbatch refused the job: invalid partition specified: gpu"):
        Slurm(slurm / "jobs", 3, {}).submit(sleeper(folder.path))


def test_where_there_is_no_slurm_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"--launcher=slurm: there is no sbatch on this machine"):
        Slurm(tmp_path, 3, {})
