"""The exception for invalid input, and its use for errors of the file system."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


class InputError(Exception):
    """Invalid input: names the thing with its value, gives the reason, and says what to do.

    Commands print the message and exit with code 2, without a traceback.

    Attributes:
      subject: what is invalid, as the caller names it: a path, or a config key with its value.
      reason: why it is invalid.
      remedy: what to do about it; "" where the reason says it.
    """

    def __init__(self, subject: str, reason: str = "", remedy: str = ""):
        self.subject, self.reason, self.remedy = subject, reason, remedy
        message = f"{subject}: {reason}" if reason else subject
        super().__init__(f"{message}; {remedy}" if remedy else message)

    def with_subject(self, subject: str) -> InputError:
        """The same error about ``subject``, such as the flag that the value came from."""
        return InputError(subject, self.reason or self.subject, self.remedy)


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
        if kind in (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EISDIR):
            raise InputError(f"{path}: cannot be written ({os.strerror(kind)}); name another place") from error
        # Libraries written in other languages raise errors of their own, in which the system's words stand.
        for number in (errno.ENOSPC, errno.EDQUOT):
            if kind == number or os.strerror(number) in str(error):
                raise InputError(
                    f"{path}: the disk is full ({os.strerror(number)}); make room and run the same again"
                ) from error
        raise


def require(condition: bool, subject: str, reason: str = "", remedy: str = "") -> None:
    """Raises ``InputError(subject, reason, remedy)`` unless the condition holds."""
    if not condition:
        raise InputError(subject, reason, remedy)
