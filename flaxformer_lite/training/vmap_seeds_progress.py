"""How several seeds that train in one program go on: each by itself, and their mean and deviation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import SupportsFloat

import jax
import numpy as np

from flaxformer_lite.monitoring.metric_writer import Report
from flaxformer_lite.monitoring.mfu import StepTiming
from flaxformer_lite.monitoring.plots import DEVIATION
from flaxformer_lite.monitoring.progress import Progress, format_progress
from flaxformer_lite.train_step.objective import Sums
from flaxformer_lite.train_step.step import UpdateStats

logger = logging.getLogger(__name__)


class Means:
    """Mean and deviation of what seeds record of one step, as lines of a record of their own.

    A line has the number of ``seeds`` in it, for each metric that all of them have its mean, and where there are two
    seeds or more their deviation (of a sample): ``{"step": 500, "seeds": 4, "eval/wer": 41.2, "eval/wer_deviation":
    0.8}``.
    """

    def __init__(self, report: Report):
        self._report = report
        self._step = 0
        self._found: list[dict[str, float]] = []

    def add(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Takes what one seed records of a step."""
        self._step = step
        self._found.append({name: float(value) for name, value in metrics.items()})

    def write(self) -> dict[str, float]:
        """Records the means of what was taken since the last time, if anything was, and gives them."""
        found, self._found = self._found, []
        if not found:
            return {}
        means: dict[str, float] = {"seeds": len(found)}
        for name in found[0]:
            values = [of_one[name] for of_one in found if name in of_one]
            if len(values) == len(found):
                means[name] = float(np.mean(values))
                if len(values) > 1:
                    means[name + DEVIATION] = float(np.std(values, ddof=1))
        self._report.write(self._step, means)
        return means

    def curves(self) -> None:
        """Draws them anew."""
        self._report.curves()


class SeedReport(Report):
    """The record of one of several seeds, which goes into their means too."""

    def __init__(self, folder: Path, means: Means):
        super().__init__(folder)
        self._means = means

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Records metrics of one step."""
        super().write(step, metrics)
        self._means.add(step, metrics)

    def samples(self, step: int, rows: Iterable[tuple[str, str, str]]) -> None:
        """Records what became of some sources; so many seeds would say too much."""
        self._keep_samples(step, rows)


class SeedProgress(Progress):
    """What the updates of one of several seeds bring, of which all together tell.

    Attributes:
      seconds_left: in the run, at the last line of the log.
    """

    seconds_left = 0.0

    def _tell(self, step: int, values: Mapping[str, float], seconds_left: float) -> None:
        self.seconds_left = seconds_left


class ProgressTogether:
    """What the updates of several seeds bring, read one step late. A seed without progress of its own has ended.

    Args:
      each: the progress of the seeds, by their number.
      means: what they record goes into.
      steps: of the whole run.
    """

    def __init__(self, each: dict[int, SeedProgress], means: Means, steps: int):
        self._each = each
        self._means = means
        self._steps = steps
        self._pending: tuple[int, Sums, UpdateStats, StepTiming] | None = None

    def add(self, step: int, sums: Sums, health: UpdateStats, spent: StepTiming) -> None:
        """Takes the results of update number ``step``, led by the seeds, and reads those before it."""
        self.catch_up()
        self._pending = step, sums, health, spent

    def catch_up(self) -> None:
        """Waits for the last update and reads its results."""
        if self._pending is None:
            return
        (step, *results, spent), self._pending = self._pending, None
        sums, health = jax.device_get(results)
        for number, progress in self._each.items():
            progress.add(step, Sums(*(x[number] for x in sums)), UpdateStats(*(x[number] for x in health)), spent)
            progress.catch_up()
        if means := self._means.write():
            self._say(step, means)

    def sums(self, number: int) -> list[float]:
        """The sums of a seed's updates since the last line of the log."""
        return self._each[number].sums

    def leave(self, number: int) -> None:
        """Goes on without this seed."""
        del self._each[number]

    def reset_clock(self) -> None:
        """Begins to measure anew, so that evaluating and saving do not count as training."""
        for progress in self._each.values():
            progress.reset_clock()

    def _say(self, step: int, means: Mapping[str, float]) -> None:
        loss, rate, speed = (means[f"train/{name}"] for name in ("loss", "learning_rate", "tokens_per_second"))
        left = next(iter(self._each.values())).seconds_left
        seeds = means["seeds"]
        line = format_progress(step, self._steps, loss, rate, speed * seeds, left)
        logger.info(
            f"{line}  (mean loss ± {means.get('train/loss' + DEVIATION, 0.0):.3f}, tokens of all {seeds:.0f} seeds)"
        )


def format_mean(values: Sequence[float]) -> str:
    """Mean and deviation as people write them; a single value as it is.

    >>> format_mean([0.31, 0.35, 0.33])
    '0.33 ± 0.02'
    """
    mean = f"{np.mean(values):.4g}"
    return f"{mean} ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else mean
