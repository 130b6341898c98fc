"""Comparison of runs by their settings and recorded metrics, grouped over seeds."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from flaxformer_lite.config.import_path import is_import_path
from flaxformer_lite.errors import InputError
from flaxformer_lite.metrics import compute as metrics

SEED = "seed"  # the config key that may differ within a group
# Besides those of metrics/.
_LOWER_IS_BETTER = ("objective", "gradient_norm", "data_wait", "padding", "peak_memory", "skipped")


class Curve(NamedTuple):
    """Values of a metric by step, in increasing order; a value may be NaN."""

    steps: Int[np.ndarray, "n"]
    values: Float[np.ndarray, "n"]


class CurvePoint(NamedTuple):
    """Value of a metric at a step; step 0 and NaN where a run has none."""

    step: int
    value: float


@dataclass(frozen=True)
class RunRecord:
    """Settings and metrics of a run, finished or not.

    Attributes:
      name: distinguishes it from the others, such as its path below their common directory.
      path: its work directory.
      settings: its config by dotted keys; lists are tuples.
      curves: by metric, such as ``eval/wer``; none is empty.
      done: whether it ended as its config requires, by its steps or its patience.
    """

    name: str
    path: Path
    settings: Mapping[str, Any]
    curves: Mapping[str, Curve]
    done: bool

    @property
    def step(self) -> int:
        """The last recorded step, or 0."""
        return max((int(curve.steps[-1]) for curve in self.curves.values()), default=0)


@dataclass(frozen=True)
class MeanStd:
    """Mean and standard deviation of a sample (ddof=1; NaN for a single value)."""

    mean: float
    std: float


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ only in their seed, with statistics over those that have the metric."""

    runs: tuple[RunRecord, ...]
    final: MeanStd
    best: MeanStd


@dataclass(frozen=True)
class Comparison:
    """Runs ranked by one metric.

    Attributes:
      runs: best first, by their best value; runs without the metric are last.
      keys: the config keys in which they differ.
      metric: such as ``eval/wer``.
      lower_is_better: direction of the metric.
    """

    runs: tuple[RunRecord, ...]
    keys: tuple[str, ...]
    metric: str
    lower_is_better: bool

    @cached_property
    def groups(self) -> tuple[SeedGroup, ...]:
        """Groups of runs over seeds, by their mean best value; a group may have a single run."""
        groups: dict[tuple[Any, ...], list[RunRecord]] = {}
        for run in self.runs:
            groups.setdefault(tuple(run.settings.get(key) for key in self.keys if key != SEED), []).append(run)
        found = [self._group(tuple(runs)) for runs in groups.values()]
        return tuple(sorted(found, key=lambda group: sort_key(group.best.mean, self.lower_is_better)))

    @property
    def duplicates(self) -> tuple[RunRecord, ...]:
        """Runs whose settings, seed included, equal another's; the mean of a group counts each."""
        counts = Counter(map(self._differing, self.runs))
        return tuple(run for run in self.runs if counts[self._differing(run)] > 1)

    def _differing(self, run: RunRecord) -> tuple[Any, ...]:
        return tuple(run.settings.get(key) for key in self.keys)

    @property
    def metrics(self) -> tuple[str, ...]:
        """All recorded metrics, those of evaluations first."""
        names = {name for run in self.runs for name in run.curves}
        return tuple(sorted(names, key=lambda name: (not name.startswith("eval/"), name)))

    def final(self, run: RunRecord) -> CurvePoint:
        """The last value of the metric."""
        return final_point(run, self.metric)

    def best(self, run: RunRecord) -> CurvePoint:
        """The best value of the metric, the earliest of equal ones."""
        return best_point(run, self.metric, self.lower_is_better)

    def _group(self, runs: tuple[RunRecord, ...]) -> SeedGroup:
        measured = [run for run in runs if self.metric in run.curves]
        final, best = ([point(run).value for run in measured] for point in (self.final, self.best))
        return SeedGroup(runs, mean_std(final), mean_std(best))


def compare(runs: Sequence[RunRecord], metric: str) -> Comparison:
    """Ranks runs by a metric."""
    lower = lower_is_better(metric)
    ranked = sorted(runs, key=lambda run: sort_key(best_point(run, metric, lower).value, lower))
    return Comparison(tuple(ranked), differing_keys(runs), metric, lower)


def differing_keys(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """Config keys whose values differ or that only some runs have, in the order of the config; the seed is last."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    differing = [key for key in keys if len({(key in run.settings, run.settings.get(key)) for run in runs}) > 1]
    return tuple(sorted(differing, key=lambda key: key == SEED))


def choose_metric(runs: Sequence[RunRecord], name: str) -> str:
    """The full name of a metric given with or without ``eval/``; "" selects the ``eval.best_metric`` of the configs.

    Raises:
      InputError: no run has recorded it, or the configs have different best metrics.
    """
    if not name:
        names = sorted({f"eval/{run.settings.get('eval.best_metric', 'loss')}" for run in runs})
        if len(names) > 1:
            raise InputError("metric", f"the runs have different eval.best_metric ({', '.join(names)})", "choose one")
        name = names[0]
    recorded = sorted({metric for run in runs for metric in run.curves})
    for full_name in (name, f"eval/{name}"):
        if full_name in recorded:
            return full_name
    near = difflib.get_close_matches(name, [*recorded, *(metric.rpartition("/")[2] for metric in recorded)], n=1)
    suggestion = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"metric {name!r}", "no run has recorded it", f"{suggestion}(recorded: {', '.join(recorded)})")


def lower_is_better(metric: str) -> bool:
    """Whether lower values of a metric, such as ``eval/wer``, are better; False for unknown metrics.

    Raises:
      InputError: the metric is an import path that cannot be imported.
    """
    name = metric.rpartition("/")[2]
    return metrics.lower_is_better(name) if is_import_path(name) else bool(known_direction(metric))


def known_direction(metric: str) -> bool | None:
    """Whether lower values of a metric are better; None where no direction is known, such as for a learning rate."""
    for name in reversed(metric.split("/")):  # ``eval/wer``, or ``eval/wer/news`` of a group of examples
        try:
            return name in _LOWER_IS_BETTER or metrics.lower_is_better(name)
        except (ValueError, InputError):  # an unknown metric, or one whose module cannot be imported here
            continue
    return None


def final_point(run: RunRecord, metric: str) -> CurvePoint:
    """The last recorded value of a metric."""
    curve = run.curves.get(metric)
    return CurvePoint(0, math.nan) if curve is None else CurvePoint(int(curve.steps[-1]), float(curve.values[-1]))


def best_point(run: RunRecord, metric: str, lower_is_better: bool) -> CurvePoint:
    """The best recorded value of a metric, the earliest of equal ones; NaN only where a run has no other value."""
    curve = run.curves.get(metric)
    return CurvePoint(0, math.nan) if curve is None else best_of_curve(curve, lower_is_better)


def best_of_curve(curve: Curve, lower_is_better: bool) -> CurvePoint:
    """The best value of a curve, the earliest of equal ones."""
    costs = curve.values if lower_is_better else -curve.values
    i = int(np.argmin(np.where(np.isnan(costs), np.inf, costs)))
    return CurvePoint(int(curve.steps[i]), float(curve.values[i]))


def sort_key(value: float, lower_is_better: bool) -> tuple[bool, float]:
    """Sorts the best value first and NaN last."""
    return math.isnan(value), 0.0 if math.isnan(value) else value if lower_is_better else -value


def mean_std(values: Sequence[float]) -> MeanStd:
    """Mean and standard deviation; NaN where there are too few values or one is NaN."""
    mean = float(np.mean(values)) if values else math.nan
    return MeanStd(mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan)
