"""The course of training: step after step, with evaluations and checkpoints, until it is over or a signal stops it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Protocol, runtime_checkable

import jax

from flaxformer_lite.config.dataclasses import TrainConfig
from flaxformer_lite.monitoring.profiler import Profile
from flaxformer_lite.monitoring.progress import Progress
from flaxformer_lite.system import malloc, multihost

logger = logging.getLogger(__name__)


@runtime_checkable
class Course(Protocol):
    """One run, or several side by side, on their way."""

    @property
    def done(self) -> int:
        """The steps behind it."""
        ...

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to train."""
        ...

    @property
    def progress(self) -> Progress:
        """What its updates bring."""
        ...

    def step(self) -> None:
        """One update."""
        ...

    def evaluate(self) -> None:
        """Measures what has been learned."""
        ...

    def save(self) -> None:
        """Writes all that is needed to go on from here."""
        ...


def follow(course: Course, config: TrainConfig, profile: Profile) -> int:
    """Trains to the end, or until SIGINT or SIGTERM; everything is saved then.

    Returns:
      The signal that stopped it; 0: none.
    """
    agreement = multihost.MaxOverProcesses()
    progress = course.progress
    profile.check(course.done, config.steps)
    with closing(profile), _heeded_signals() as signals, jax.transfer_guard("disallow"):
        while not (stop := agreement(max(signals, default=0))) and not course.ended:
            profile.before(course.done + 1, progress.catch_up)
            course.step()
            profile.after(course.done, progress.catch_up)
            evaluating = course.done % config.eval_every == 0 or course.done == config.steps
            if evaluating or course.done % config.save_every == 0:
                progress.catch_up()
                if evaluating:
                    course.evaluate()
                course.save()
                malloc.trim()
                progress.reset_clock()
        progress.catch_up()
        course.save()
    return stop


@contextmanager
def _heeded_signals() -> Iterator[list[int]]:
    """Gives a list that SIGINT and SIGTERM are put into; a second one stops the program at once."""
    received: list[int] = []

    def receive(number: int, _: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        logger.info(f"{signal.Signals(number).name}: saving after this step …")

    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield received
        return
    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
