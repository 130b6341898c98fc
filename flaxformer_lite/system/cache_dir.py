"""The user's cache folder: what can be made again, and need not be."""

from __future__ import annotations

import os
from pathlib import Path

_KEEP_ALL = {  # jax's own variables, which whoever knows better may set
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # many small programs are a second too
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def cache_dir() -> Path:
    """``~/.cache/flaxformer_lite``, or where XDG_CACHE_HOME says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "flaxformer_lite"


def enable_compilation_cache() -> None:
    """Has jax, imported later, keep every program that it compiles in the cache folder, for the next start to load.

    JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false keeps none.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_dir() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written to: then there is no cache
        return
    for name, value in ({"JAX_COMPILATION_CACHE_DIR": str(folder)} | _KEEP_ALL).items():
        os.environ.setdefault(name, value)
