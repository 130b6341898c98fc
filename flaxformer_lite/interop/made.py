"""Folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from flaxformer_lite.errors import InputError, write_errors_named


def check_free(folder: Path) -> None:
    """Raises ``InputError`` where a folder that shall be made is there, and not empty."""
    with write_errors_named(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is there already; name a new folder")


@contextlib.contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """Gives a new folder beside it to write into, which becomes it at the end, or is removed where that fails."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with write_errors_named(folder):
            partial.mkdir(parents=True)
            yield partial
            if folder.exists():
                folder.rmdir()  # it is empty
            os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
