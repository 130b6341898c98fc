"""A trace of some training steps, as xprof and TensorBoard's profile plugin open it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import jax

logger = logging.getLogger(__name__)


class Profile:
    """Traces a run from before its step ``first`` until after its step ``last``; where ``last`` is 0, nothing.

    Args:
      first: number of a step, from 1.
      last: number of a step.
      folder: where the trace is written.
    """

    def __init__(self, first: int, last: int, folder: Path):
        self._first, self._last, self._folder = first, last, folder
        self._running = False

    def check(self, done: int, steps: int) -> None:
        """Says so where a run that has ``done`` some of its ``steps`` has nothing left to trace."""
        if self._last and not (done < self._last and self._first <= steps):
            logger.info(
                f"steps {self._first:,} to {self._last:,} are not traced: this run has {done:,} behind it, of {steps:,}"
            )

    def before(self, step: int, wait: Callable[[], None]) -> None:
        """To be called before each step; ``wait`` ends with what is still under way."""
        if self._first <= step <= self._last and not self._running:
            wait()
            logger.info(f"tracing steps {step:,} to {self._last:,} …")
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int, wait: Callable[[], None]) -> None:
        """To be called after each step."""
        if self._running and step >= self._last:
            wait()
            self.close()

    def close(self) -> None:
        """Writes what has been traced, if anything is."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            logger.info(f"traced; look at it with: xprof --logdir={self._folder}")
