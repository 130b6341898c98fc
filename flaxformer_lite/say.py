"""Words to people, on standard error; standard output is for results."""

from __future__ import annotations

import sys

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
