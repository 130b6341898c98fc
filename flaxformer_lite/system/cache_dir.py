"""The user's cache directory, for prepared data sets and compiled programs."""

from __future__ import annotations

import os
from pathlib import Path

_KEEP_ALL = {  # jax's own variables, which the user's environment may set otherwise
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # many small programs take seconds together
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def cache_dir() -> Path:
    """``flaxformer_lite`` in XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "flaxformer_lite"


def enable_compilation_cache() -> None:
    """Makes jax, imported later, keep all compiled programs in the cache directory.

    JAX_COMPILATION_CACHE_DIR names another directory; JAX_ENABLE_COMPILATION_CACHE=false disables the cache.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_dir() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written to; there is no cache then
        return
    for name, value in ({"JAX_COMPILATION_CACHE_DIR": str(folder)} | _KEEP_ALL).items():
        os.environ.setdefault(name, value)
