"""Messages while something takes long that reports no progress itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flaxformer_lite.system.console import format_duration

logger = logging.getLogger(__name__)

_FIRST_SECONDS, _MOST_SECONDS = 5, 60


@contextmanager
def heartbeat(what: str) -> Iterator[None]:
    """Logs ``what`` and the time since the start after 5 seconds, then less and less often, down to once a minute."""
    start, done = time.monotonic(), threading.Event()

    def log() -> None:
        pause = _FIRST_SECONDS
        while not done.wait(pause):
            logger.info(f"{what}: {format_duration(time.monotonic() - start)} so far")
            pause = min(2 * pause, _MOST_SECONDS)

    thread = threading.Thread(target=log, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
