import os
import signal
import socket
import subprocess
import sys

import pytest

from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.errors import InputError
from flaxformer_lite.system import file_lock

_HOLD = "import sys, time; from pathlib import Path; from flaxformer_lite.system import file_lock\n"
_HOLD += "with file_lock.hold(Path(sys.argv[1])) as other: print(other, flush=True); time.sleep(60)"


@pytest.fixture
def hold(repository, monkeypatch):
    monkeypatch.setattr(file_lock, "_PATIENCE", 0.2)
    started = []

    def start(path):
        process = subprocess.Popen(
            [sys.executable, "-c", _HOLD, path], cwd=repository, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "None\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_lock_names_its_holder_and_ends_with_it(hold, tmp_path):
    lock = tmp_path / "lock"
    assert file_lock.holder(lock) is None  # there is no such file
    process = hold(lock)
    there = file_lock.Holder(socket.gethostname(), process.pid)
    assert file_lock.holder(lock) == there
    with file_lock.hold(lock) as other:
        assert other == there
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert file_lock.holder(lock) is None
    with file_lock.hold(lock) as other:
        assert other is None
        assert file_lock.holder(lock) == file_lock.Holder(socket.gethostname(), os.getpid())
    assert file_lock.holder(lock) is None


def test_a_lock_held_for_a_moment_is_awaited(tmp_path, monkeypatch):
    """Asking for the holder takes the lock for a moment, which must not refuse another process."""
    tries = iter([False, False, True])
    monkeypatch.setattr(file_lock, "_lock", lambda file, kind: next(tries))
    with file_lock.hold(tmp_path / "lock") as other:
        assert other is None


def test_two_runs_do_not_share_a_directory(hold, tmp_path):
    folder = WorkDir(tmp_path)
    with folder.alone():
        pass
    process = hold(tmp_path / ".lock")
    with (
        pytest.raises(InputError, match=rf"process {process.pid} on .* trains in this directory already"),
        folder.alone(),
    ):
        pytest.fail("it is not alone")
