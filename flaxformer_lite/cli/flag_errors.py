"""Error messages that name flags."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

from flaxformer_lite.errors import InputError


@contextlib.contextmanager
def name_flags(arguments: argparse.Namespace, *flags: str) -> Iterator[None]:
    """Replaces the subject of an ``InputError`` by ``--flag=value`` if it is the flag's value, or its name and value.

    >>> with name_flags(argparse.Namespace(source="x"), "source"):
    ...     raise InputError("x", "there is no such directory")
    Traceback (most recent call last):
    flaxformer_lite.errors.InputError: --source=x: there is no such directory
    """
    try:
        yield
    except InputError as error:
        for flag in flags:
            value = getattr(arguments, flag)
            if error.subject in (str(value), f"{flag}={value!r}"):
                raise error.with_subject(f"--{flag}={value}") from error
        raise
