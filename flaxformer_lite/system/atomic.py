"""Atomic writes: files and directories that appear completely or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flaxformer_lite.errors import InputError, write_errors_named


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` to write to, and renames it to ``path`` unless an error occurs.

    Raises:
      InputError: the disk is full, or the directory cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with write_errors_named(path):
        try:
            yield draft
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def require_free(path: Path) -> None:
    """Raises ``InputError`` unless a directory can be created here: there is none yet, or an empty one."""
    with write_errors_named(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(str(path), "exists already", "choose a new directory")


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yields a new directory beside ``path`` to write into, and renames it to ``path``, or removes it after an error.

    Raises:
      InputError: the disk is full, or the directory cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with write_errors_named(path):
            partial.mkdir(parents=True)
            yield partial
            if path.exists():
                path.rmdir()  # an empty one
            os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
