"""Output of commands: standard output for ``-``, or a file that is written atomically."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

from flaxformer_lite.errors import require, write_errors_named
from flaxformer_lite.system import multihost
from flaxformer_lite.system.atomic import atomic_write


def check_writable(path: str, flag: str = "--output") -> None:
    """Raises ``InputError`` where the file of a flag cannot be written, before there is anything to write."""
    place = Path(path).resolve()
    if path == "-":
        return
    require(not place.is_dir(), f"{flag}={path}", "is a directory", "name a file")
    writable = os.access(place if _is_special(place) else place.parent, os.W_OK)
    require(writable, f"{flag}={path}", "cannot be written", "name a file in a directory that exists and is writable")


def check_folder(path: str, flag: str) -> None:
    """Raises ``InputError`` where the directory of a flag can be neither created nor written into."""
    place = Path(path).resolve()
    nearest = next(folder for folder in (place, *place.parents) if folder.exists())
    require(nearest.is_dir(), f"{flag}={path}", f"{nearest} is a file", "name a directory")
    require(os.access(nearest, os.W_OK), f"{flag}={path}", "cannot be written", "name a directory that is writable")


def write(path: str, texts: Iterable[str]) -> None:
    """Writes to standard output as the texts come, or to a file atomically."""
    if path == "-":
        for text in texts:
            with write_errors_named(Path("standard output")):
                sys.stdout.buffer.write(text.encode())
                sys.stdout.buffer.flush()
        return
    place = Path(path if multihost.is_primary() else os.devnull).resolve()  # through a link, which stays one
    content = "".join(texts).encode()
    with write_errors_named(place), nullcontext(place) if _is_special(place) else atomic_write(place) as draft:
        draft.write_bytes(content)


def _is_special(place: Path) -> bool:
    """Whether this is a pipe, /dev/null or the like, which must not be replaced by a file."""
    return place.exists() and not place.is_file()
