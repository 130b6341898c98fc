"""Messages on standard error, and the format of durations, sizes and tables."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence

from flaxformer_lite.system import multihost


class _PrimaryProcess(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return multihost.is_primary()


class _StandardError(logging.StreamHandler):
    """Writes to whatever ``sys.stderr`` is at the time of the message."""

    def __init__(self):
        logging.Handler.__init__(self)
        self.addFilter(_PrimaryProcess())

    @property
    def stream(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return sys.stderr


def configure_logging(level: int = logging.INFO) -> None:
    """Sends the package's messages of ``level`` and above to standard error, from the primary process only."""
    package = logging.getLogger("flaxformer_lite")
    package.setLevel(level)
    package.propagate = False
    if not any(isinstance(handler, _StandardError) for handler in package.handlers):
        package.addHandler(_StandardError())


def format_duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def format_size(amount: float) -> str:
    """Bytes with a unit: ``1.50 GB``."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if amount >= size:
            return f"{amount / size:,.2f} {unit}"
    return f"{amount:.0f} B"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Iterator[str]:
    """Lines of a table; the columns with the indices ``left`` are aligned to the left, others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = zip(row, widths, strict=True)
        line = "   ".join(
            cell.ljust(width) if place in left else cell.rjust(width) for place, (cell, width) in enumerate(cells)
        )
        yield f"  {line}".rstrip()
