"""The one exception for what a user can mend."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


class InputError(Exception):
    """What the user gave cannot work. The message names the thing, shows its value and says what to do.

    Commands print the message and end with exit code 2; nobody sees a traceback for it.
    """


@contextlib.contextmanager
def write_errors_named(path: Path) -> Iterator[None]:
    """Turns a full disk, or a place that is not the user's, into an ``InputError`` that names what is written."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        kind = getattr(error, "errno", None)
        if kind in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise InputError(
                f"{path}: cannot be written ({os.strerror(kind)}); make it yours, or name another place"
            ) from error
        if kind in (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
            raise InputError(f"{path}: cannot be written ({os.strerror(kind)}); name another place") from error
        # Libraries written in other languages raise errors of their own, in which the system's words stand.
        for number in (errno.ENOSPC, errno.EDQUOT):
            if kind == number or os.strerror(number) in str(error):
                raise InputError(
                    f"{path}: the disk is full ({os.strerror(number)}); make room and run the same again"
                ) from error
        raise


def require(condition: bool, message: str) -> None:
    """Raises ``InputError(message)`` unless the condition holds."""
    if not condition:
        raise InputError(message)
