"""Training metrics at regular intervals, and the progress line of the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError
from flaxformer_lite.monitoring.metric_writer import MetricWriter
from flaxformer_lite.monitoring.utilization import StepTiming, TokenCounts, peak_memory
from flaxformer_lite.system.console import format_duration
from flaxformer_lite.train_step.objective import Sums
from flaxformer_lite.train_step.step import UpdateStats

logger = logging.getLogger(__name__)

NUM_SUMS = len(Sums._fields) + len(TokenCounts._fields)


class Skipped(NamedTuple):
    """Counts of updates skipped because loss or gradient were not finite."""

    consecutive: int
    total: int


class Progress:
    """Accumulates the results of updates and writes them every ``train.log_every`` steps.

    Results are read one step late, so that the device never waits for the host.

    Args:
      config: of the run.
      schedule: the learning rate of each update.
      writer: of the metrics.
      skipped: skipped updates so far.
      sums: sums of the updates since the last interval, as the checkpoint has them.
      compile_seconds: seconds spent so far on compiling the training step, which speed and time left do not include.
    """

    def __init__(
        self,
        config: Config,
        schedule: Callable[[int], Any],
        writer: MetricWriter,
        skipped: Skipped,
        sums: Sequence[float],
        compile_seconds: Callable[[], float] = float,
    ):
        self._train = config.train
        self._schedule = schedule
        self._writer = writer
        self._skipped = skipped
        self._compile_seconds = compile_seconds
        self._pending: tuple[int, Sums, UpdateStats, StepTiming, TokenCounts] | None = None
        self._sums = np.zeros(NUM_SUMS)  # since the last interval: of ``Sums``, then of ``TokenCounts``
        self._sums[: len(sums)] = sums  # checkpoints of earlier versions have no counts
        self.reset_clock()

    @property
    def sums(self) -> list[float]:
        """The sums of the updates that were read since the last interval."""
        return self._sums.tolist()

    def add(self, step: int, sums: Sums, stats: UpdateStats, timing: StepTiming, counts: TokenCounts) -> None:
        """Takes the results of update number ``step``, which may be still under way, and reads those before it."""
        self.catch_up()
        self._pending = step, sums, stats, timing, counts

    def catch_up(self) -> None:
        """Waits for the last update and reads its results."""
        if self._pending is None:
            return
        (step, *results, timing, counts), self._pending = self._pending, None
        sums, stats = jax.device_get(results)
        self._check_finite(step, sums, stats)
        if stats.applied:
            self._sums += np.array([*sums, *counts])
        self._steps += 1
        self._tokens += float(sums.weight)
        self._timing = StepTiming(*(a + b for a, b in zip(self._timing, timing, strict=True)))
        if step % self._train.log_every == 0 or step == self._train.steps:
            self._write(step, stats)

    def reset_clock(self) -> None:
        """Starts a new interval of time, so that evaluating and saving do not count as training."""
        self._clock, self._compiled = time.monotonic(), self._compile_seconds()
        self._steps, self._tokens, self._timing = 0, 0.0, StepTiming()

    def _check_finite(self, step: int, sums: Sums, stats: UpdateStats) -> None:
        if stats.applied:
            self._skipped = Skipped(0, self._skipped.total)
            return
        self._skipped = Skipped(self._skipped.consecutive + 1, self._skipped.total + 1)
        loss = sums.objective / sums.weight
        logger.warning(f"step {step:,}: update skipped: loss {loss}, gradient norm {stats.gradient_norm}")
        if self._skipped.consecutive >= self._train.max_nonfinite_steps:
            raise InputError(
                f"step {step:,}",
                f"loss or gradient was not finite for {self._skipped.consecutive} consecutive updates "
                f"(config.train.max_nonfinite_steps); the last checkpoint is good and contains none of them",
                "lower config.optim.learning_rate or config.optim.clip_norm and start in another work directory",
            )

    def _write(self, step: int, stats: UpdateStats) -> None:
        compiling = self._compile_seconds() - self._compiled
        seconds = max(time.monotonic() - self._clock - compiling, 1e-9)
        loss, correct, weight, objective, tokens, positions = self.sums
        weight = weight or float("nan")  # all updates may have been skipped
        with jax.transfer_guard("allow"):  # the schedule computes with jax; its few numbers may go to the device
            rate = float(self._schedule(max(step - self._skipped.total - 1, 0)))  # of the last update applied
        rate *= float(stats.plateau_factor)
        speed = self._tokens / seconds
        values = {
            "train/loss": loss / weight,
            "train/token_accuracy": 100 * correct / weight,
            "train/learning_rate": rate,
            "train/gradient_norm": float(stats.gradient_norm),
            "train/tokens_per_second": speed,
            "train/tokens_per_second_per_device": speed / jax.device_count(),
            "train/data_wait": self._timing.data_wait / max(self._steps, 1),
            "train/padding": 100 * (1 - tokens / max(positions, 1)),
        }
        if self._timing.at_peak:
            values["train/mfu"] = 100 * self._timing.at_peak / seconds
        if memory := peak_memory():
            values["train/peak_memory"] = memory
        if objective != loss:  # training minimizes more than the label loss
            values["train/objective"] = objective / weight
        if self._skipped.total:
            values["train/skipped"] = self._skipped.total
        self._writer.write(step, values)
        seconds_left = (self._train.steps - step) * seconds / max(self._steps, 1)
        logger.info(format_progress(step, self._train.steps, loss / weight, rate, speed, seconds_left))
        self._sums = np.zeros(NUM_SUMS)
        self.reset_clock()


def format_progress(
    step: int, steps: int, loss: float, learning_rate: float, tokens_per_second: float, seconds_left: float
) -> str:
    """The progress line of the log.

    >>> format_progress(1200, 10000, 1.2341, 1e-3, 15312.0, 700.0)
    'step  1,200/10,000  loss 1.234  rate 1.0e-03  15,300 tokens/s  12 min left'
    """
    of = f"{steps:,}"
    speed = float(f"{tokens_per_second:.3g}")  # more digits would be noise
    return (
        f"step {step:{len(of)},}/{of}  loss {loss:.3f}  rate {learning_rate:.1e}  {speed:,.0f} tokens/s  "
        f"{format_duration(seconds_left)} left"
    )
