"""The memory of a long run: what it has freed goes back to the system. Of use where the C library is glibc."""

from __future__ import annotations

import ctypes
import os
from typing import Any

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h


def use_single_arena() -> None:
    """Has all threads allocate from one heap, before there are any.

    By default glibc gives threads heaps of their own, and those of threads that come and go, as at each checkpoint, are
    left full of gaps: 10 % more memory after 1,000 steps of configs/tiny.py.
    """
    _glibc("mallopt", _M_ARENA_MAX, 1)


def return_large_arrays() -> None:
    """Has arrays of more than a megabyte go back to the system when they are freed.

    By default glibc keeps those of up to 32 MiB once it has seen one freed: importing T5-small took 9 % more.
    """
    _glibc("mallopt", _M_MMAP_THRESHOLD, 2**20)


def trim() -> None:
    """Gives what has been freed back to the system, which glibc keeps: a seventh of a run of configs/tiny.py."""
    _glibc("malloc_trim", 0)


def _glibc(name: str, *arguments: int) -> None:
    function: Any = getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
    if function:
        function(*arguments)
