"""Words to people, on standard error; standard output is for results."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from flaxformer_lite import processes


def say(text: str) -> None:
    """Writes one line to standard error, at once; of several processes the first."""
    if processes.first():
        print(text, file=sys.stderr, flush=True)


def format_duration(seconds: float) -> str:
    """Seconds as people say them: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def format_size(amount: float) -> str:
    """Bytes as people read them: ``1.50 GB``."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if amount >= size:
            return f"{amount / size:,.2f} {unit}"
    return f"{amount:.0f} B"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Iterator[str]:
    """Columns under one another; those named in ``left`` begin at the left."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = zip(row, widths, strict=True)
        line = "   ".join(
            cell.ljust(width) if place in left else cell.rjust(width) for place, (cell, width) in enumerate(cells)
        )
        yield f"  {line}".rstrip()
