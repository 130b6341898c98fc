"""Settings of glibc's malloc with which freed memory returns to the system; no effect with other C libraries."""

from __future__ import annotations

import ctypes
import os
from typing import Any

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h


def use_single_arena() -> None:
    """Makes all threads, which start later, allocate from one heap.

    By default threads have heaps of their own, and those of short-lived threads, as at each checkpoint, fragment: 10 %
    more memory after 1,000 steps of configs/tiny.py.
    """
    _glibc("mallopt", _M_ARENA_MAX, 1)


def return_large_arrays() -> None:
    """Returns arrays of more than a megabyte to the system when they are freed.

    By default glibc keeps those of up to 32 MiB once one has been freed: importing T5-small took 9 % more.
    """
    _glibc("mallopt", _M_MMAP_THRESHOLD, 2**20)


def trim() -> None:
    """Returns freed memory to the system: a seventh of that of a run of configs/tiny.py."""
    _glibc("malloc_trim", 0)


def _glibc(name: str, *arguments: int) -> None:
    function: Any = getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
    if function:
        function(*arguments)
