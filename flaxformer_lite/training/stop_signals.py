"""SIGINT and SIGTERM end training after the current step."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Records SIGINT and SIGTERM while training, and announces them at once.

    Python runs signal handlers only between bytecodes, so during a compilation or another long call of a library an
    interrupt has no visible effect until that returns. The wake-up file descriptor is written immediately, and a thread
    that reads it logs what will happen. Outside the main thread, where signals cannot be handled, it does nothing.
    """

    def __init__(self):
        self.received = 0  # the number of the signal; 0: none
        self._announcement = "stopping before the first step; the same command starts again"
        self._is_main_thread = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> StopSignals:
        if self._is_main_thread:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            self._previous_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._announce, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_main_thread:
            signal.set_wakeup_fd(self._previous_fd)
            os.close(self._writer)
            self._thread.join()
            os.close(self._reader)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within it, the first signal is only recorded and a second one raises ``KeyboardInterrupt``."""
        if not self._is_main_thread:
            yield
            return
        previous = {number: signal.signal(number, self._record) for number in _SIGNALS}
        self._announcement = "saving after the current step (a running compilation ends first) …"
        try:
            yield
        finally:
            self._announcement = "stopping while the last checkpoint is written"
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _record(self, number: int, _: Any) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = number

    def _announce(self) -> None:
        while data := os.read(self._reader, 1):
            if data[0] in _SIGNALS:
                logger.info(f"{signal.Signals(data[0]).name}: {self._announcement}")
