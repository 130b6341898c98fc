"""Where a command's results go: standard output for ``-``, or a file that has its name only when it is complete."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from flaxformer_lite.errors import InputError, write_errors_named
from flaxformer_lite.system import multihost
from flaxformer_lite.system.atomic import atomic_write


def check_writable(path: str, flag: str = "--output") -> None:
    """Raises InputError where what a flag names cannot be written, before there is anything to write."""
    place = Path(path).resolve()
    if path == "-":
        return
    if place.is_dir():
        raise InputError(f"{flag}={path}: this is a folder; name a file")
    if not os.access(place if _is_special(place) else place.parent, os.W_OK):
        raise InputError(f"{flag}={path}: cannot write there; name a file in a folder that exists and is yours")


def check_folder(path: str, flag: str) -> None:
    """Raises InputError where the folder that a flag names can neither be made nor written into."""
    place = Path(path).resolve()
    nearest = next(folder for folder in (place, *place.parents) if folder.exists())
    if not nearest.is_dir():
        raise InputError(f"{flag}={path}: {nearest} is a file; name a folder")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"{flag}={path}: cannot write there; name a folder that is yours")


def write(path: str, texts: Iterable[str]) -> None:
    """Writes to standard output as the texts come, to a file all at once: it is under its name only when complete."""
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
    """Whether this is a pipe, /dev/null or the like, which no file may replace."""
    return place.exists() and not place.is_file()


def to_json(values: Any, indent: int | None = None) -> str:
    """JSON text of plain values; NaN and infinities, which JSON does not have, become null."""
    return json.dumps(_finite(values), ensure_ascii=False, allow_nan=False, indent=indent)


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
