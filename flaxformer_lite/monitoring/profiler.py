"""Profiler traces of some training steps, for xprof and TensorBoard's profile plugin."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import jax

logger = logging.getLogger(__name__)


class Profiler:
    """Traces the training steps ``first`` to ``last`` (numbered from 1); none where ``last`` is 0.

    Args:
      first: the first step.
      last: the last step.
      folder: the trace is written there.
    """

    def __init__(self, first: int, last: int, folder: Path):
        self._first, self._last, self._folder = first, last, folder
        self._running = False

    def check(self, done: int, steps: int) -> None:
        """Warns where a run that resumes after ``done`` of its ``steps`` runs none of the steps to trace."""
        if self._last and not (done < self._last and self._first <= steps):
            logger.warning(
                f"steps {self._first:,} to {self._last:,} are not traced: {done:,} of {steps:,} steps are done already"
            )

    def before(self, step: int, wait: Callable[[], None]) -> None:
        """Called before each step; ``wait`` blocks until the earlier steps have finished."""
        if self._first <= step <= self._last and not self._running:
            wait()
            logger.info(f"tracing steps {step:,} to {self._last:,} …")
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int, wait: Callable[[], None]) -> None:
        """Called after each step."""
        if self._running and step >= self._last:
            wait()
            self.close()

    def close(self) -> None:
        """Writes the trace, if one is running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            logger.info(f"trace written; view it with: xprof --logdir={self._folder}")
