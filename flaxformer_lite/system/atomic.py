"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flaxformer_lite.errors import write_errors_named


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a place beside a file to write to; what is written takes the file's place in the end, unless that fails.

    Raises:
      InputError: the disk is full, or the place not the user's.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with write_errors_named(path):
        try:
            yield draft
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
