"""File locks of processes, which end with the process, however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from flaxformer_lite.errors import write_errors_named

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # by some network file systems
_PATIENCE = 2.0  # seconds; a process that asks for the holder has the lock for a moment


class Holder(NamedTuple):
    """The process that holds a lock."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextlib.contextmanager
def hold(path: Path) -> Iterator[Holder | None]:
    """Locks a file, and yields None, or the process that holds the lock already.

    Where the file system does not support locks, every process gets one.
    """
    with write_errors_named(path):
        file = path.open("ab+", buffering=0)  # unbuffered: closing must not repeat a write that a full disk refused
    with file:
        end = time.monotonic() + _PATIENCE
        while not (ours := _lock(file, fcntl.LOCK_EX)) and time.monotonic() < end:
            time.sleep(0.05)
        if ours:
            with write_errors_named(path):
                file.truncate(0)
                file.write(json.dumps(_here()._asdict()).encode())
        yield None if ours else _read(file)


def holder(path: Path) -> Holder | None:
    """The process that holds a lock; None: none does."""
    try:
        with path.open("rb", buffering=0) as file:
            return None if _lock(file, fcntl.LOCK_SH) else _read(file)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _lock(file: FileIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    return True


def _read(file: FileIO) -> Holder:
    try:
        file.seek(0)
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):  # it has just acquired the lock, and not yet written its name
        return Holder("an unknown machine", 0)


def _here() -> Holder:
    return Holder(socket.gethostname(), os.getpid())
