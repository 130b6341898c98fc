"""The exception for invalid input, and its use for errors of the file system."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


class InputError(Exception):
    """Invalid input: the message names it with its value, gives the reason and a remedy.

    Commands print the message and exit with code 2, without a traceback.

    Attributes:
      subject: what is invalid, as the caller names it: a path, or a config key with its value.
      reason: why it is invalid.
      remedy: what to do about it; "" where the reason implies it.
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
    """Converts errors of a full disk, or of a path that cannot be written, to an ``InputError`` that names the path."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        kind = getattr(error, "errno", None)
        if kind in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "check permissions, or choose another path"
            raise InputError(str(path), f"cannot be written ({os.strerror(kind)})", remedy) from error
        if kind in (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EISDIR):
            raise InputError(str(path), f"cannot be written ({os.strerror(kind)})", "choose another path") from error
        # Libraries in other languages raise errors of their own types, which contain the system's message.
        for number in (errno.ENOSPC, errno.EDQUOT):
            if kind == number or os.strerror(number) in str(error):
                remedy = "free some space and run the same command again"
                raise InputError(str(path), f"the disk is full ({os.strerror(number)})", remedy) from error
        raise


def require(condition: bool, subject: str, reason: str = "", remedy: str = "") -> None:
    """Raises ``InputError(subject, reason, remedy)`` unless the condition holds."""
    if not condition:
        raise InputError(subject, reason, remedy)
