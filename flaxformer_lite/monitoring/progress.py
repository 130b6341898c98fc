"""How a run goes on: its losses, its speed and what is left of it, every few steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError
from flaxformer_lite.monitoring.metric_writer import Report
from flaxformer_lite.monitoring.mfu import StepTiming, peak_memory
from flaxformer_lite.system.console import format_duration
from flaxformer_lite.train_step.objective import Sums
from flaxformer_lite.train_step.step import UpdateStats

logger = logging.getLogger(__name__)


class Skipped(NamedTuple):
    """Updates skipped because loss or gradient were not finite."""

    in_a_row: int
    total: int


class Progress:
    """What updates bring, read one step late so that the device never waits for the host."""

    name = ""  # of the run, before what is said of it

    def __init__(
        self, config: Config, schedule: Callable[[int], Any], report: Report, skipped: Skipped, sums: Sequence[float]
    ):
        self._train = config.train
        self._schedule = schedule
        self._report = report
        self._skipped = skipped
        self._pending: tuple[int, Sums, UpdateStats, StepTiming] | None = None
        self._sums = np.array(sums)  # since the last line
        self.reset_clock()

    @property
    def sums(self) -> list[float]:
        """The sums of the updates read since the last line of the log."""
        return self._sums.tolist()

    def add(self, step: int, sums: Sums, health: UpdateStats, spent: StepTiming) -> None:
        """Takes the results of update number ``step``, which may be still under way, and reads those before it."""
        self.catch_up()
        self._pending = step, sums, health, spent

    def catch_up(self) -> None:
        """Waits for the last update and reads its results."""
        if self._pending is None:
            return
        (step, *results, spent), self._pending = self._pending, None
        sums, health = jax.device_get(results)
        self._watch(step, sums, health)
        if health.applied:
            self._sums += np.array(sums)
        self._steps += 1
        self._tokens += float(sums.weight)
        self._spent = StepTiming(*(a + b for a, b in zip(self._spent, spent, strict=True)))
        if step % self._train.log_every == 0 or step == self._train.steps:
            self._log(step, health)

    def reset_clock(self) -> None:
        """Begins to measure anew, so that evaluating and saving do not count as training."""
        self._clock, self._steps, self._tokens, self._spent = time.monotonic(), 0, 0.0, StepTiming()

    def _watch(self, step: int, sums: Sums, health: UpdateStats) -> None:
        if health.applied:
            self._skipped = Skipped(0, self._skipped.total)
            return
        self._skipped = Skipped(self._skipped.in_a_row + 1, self._skipped.total + 1)
        loss = sums.objective / sums.weight
        logger.info(f"{self.name}step {step:,}: update skipped: loss {loss}, gradient norm {health.gradient_norm}")
        if self._skipped.in_a_row >= self._train.max_nonfinite_steps:
            raise InputError(
                f"{self.name}step {step:,}: loss or gradient was not finite for {self._skipped.in_a_row} updates in a "
                f"row (config.train.max_nonfinite_steps); the last checkpoint is good and holds none of these updates; "
                f"lower config.optim.learning_rate or config.optim.clip_norm and start in another work folder"
            )

    def _log(self, step: int, health: UpdateStats) -> None:
        seconds = time.monotonic() - self._clock
        loss, correct, weight, objective = self.sums
        weight = weight or float("nan")  # all updates may have been skipped
        with jax.transfer_guard("allow"):  # the schedule is jax's; its few numbers may go to the device
            rate = float(self._schedule(max(step - self._skipped.total - 1, 0)))  # of the last update applied
        rate *= float(health.rate_factor)
        values = {
            "train/loss": loss / weight,
            "train/token_accuracy": 100 * correct / weight,
            "train/learning_rate": rate,
            "train/gradient_norm": float(health.gradient_norm),
            "train/tokens_per_second": self._tokens / seconds,
            "train/tokens_per_second_per_device": self._tokens / seconds / jax.device_count(),
            "train/data_wait": self._spent.waiting / max(self._steps, 1),
        }
        if self._spent.at_best:
            values["train/mfu"] = 100 * self._spent.at_best / seconds
        if memory := peak_memory():
            values["train/peak_memory"] = memory
        if objective != loss:  # more than the label loss is minimized
            values["train/objective"] = objective / weight
        if self._skipped.total:
            values["train/skipped"] = self._skipped.total
        self._report.write(step, values)
        self._tell(step, values, (self._train.steps - step) * seconds / max(self._steps, 1))
        self._sums = np.zeros(len(Sums._fields))
        self.reset_clock()

    def _tell(self, step: int, values: Mapping[str, float], seconds_left: float) -> None:
        loss, rate, speed = (values[f"train/{name}"] for name in ("loss", "learning_rate", "tokens_per_second"))
        logger.info(format_progress(step, self._train.steps, loss, rate, speed, seconds_left))


def format_progress(
    step: int, steps: int, loss: float, learning_rate: float, tokens_per_second: float, seconds_left: float
) -> str:
    """The progress line.

    >>> format_progress(1200, 10000, 1.2341, 1e-3, 15312.0, 700.0)
    'step  1,200/10,000  loss 1.234  rate 1.0e-03  15,300 tokens/s  12 min left'
    """
    of = f"{steps:,}"
    speed = float(f"{tokens_per_second:.3g}")  # more digits would be noise
    return (
        f"step {step:{len(of)},}/{of}  loss {loss:.3f}  rate {learning_rate:.1e}  {speed:,.0f} tokens/s  "
        f"{format_duration(seconds_left)} left"
    )
