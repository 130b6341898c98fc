"""Runs to compare, as plain values: their settings, their curves, and what is read off them."""

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

SEED = "seed"  # the key in which runs of one group differ
_COSTS = ("objective", "gradient_norm", "data_wait", "peak_memory", "skipped")  # what metrics/ does not compute


class Curve(NamedTuple):
    """What a run recorded of one metric; steps rise, a value may be NaN."""

    steps: Int[np.ndarray, "n"]
    values: Float[np.ndarray, "n"]


class Point(NamedTuple):
    """A value of a metric and the step at which it was recorded."""

    step: int
    value: float


@dataclass(frozen=True)
class Run:
    """One run, finished or not.

    Attributes:
      name: what tells it from the others, such as its folder's path within theirs.
      folder: its work folder.
      settings: its config by dotted keys; lists are tuples.
      curves: by metric, such as ``eval/wer``; none is empty.
      done: whether it has ended as its config says, by its steps or its patience.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    curves: Mapping[str, Curve]
    done: bool

    @property
    def step(self) -> int:
        """The last step of which something is recorded; 0 where nothing is."""
        return max((int(curve.steps[-1]) for curve in self.curves.values()), default=0)


@dataclass(frozen=True)
class Spread:
    """Mean and deviation (of a sample, ddof=1; NaN of a single value) of the runs of a group."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed, and how good those are that have the metric."""

    runs: tuple[Run, ...]
    final: Spread
    best: Spread


@dataclass(frozen=True)
class Comparison:
    """Runs by one metric.

    Attributes:
      runs: best first, by their best value; those without one come last.
      keys: the settings in which they differ.
      metric: such as ``eval/wer``.
      lower_is_better: whether the metric counts errors.
    """

    runs: tuple[Run, ...]
    keys: tuple[str, ...]
    metric: str
    lower_is_better: bool

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The runs over their seeds, best mean of the best values first; a run without siblings is a group of one."""
        shared: dict[tuple[Any, ...], list[Run]] = {}
        for run in self.runs:
            shared.setdefault(tuple(run.settings.get(key) for key in self.keys if key != SEED), []).append(run)
        found = [self._group(tuple(runs)) for runs in shared.values()]
        return tuple(sorted(found, key=lambda group: rank(group.best.mean, self.lower_is_better)))

    @property
    def repeated(self) -> tuple[Run, ...]:
        """Runs that differ from another in nothing, not even their seed; a group's mean counts each."""
        alike = Counter(map(self._point, self.runs))
        return tuple(run for run in self.runs if alike[self._point(run)] > 1)

    def _point(self, run: Run) -> tuple[Any, ...]:
        return tuple(run.settings.get(key) for key in self.keys)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that a run has, what is evaluated first."""
        names = {name for run in self.runs for name in run.curves}
        return tuple(sorted(names, key=lambda name: (not name.startswith("eval/"), name)))

    def final(self, run: Run) -> Point:
        """The last value of the metric; step 0 and NaN where the run has none."""
        return final(run, self.metric)

    def best(self, run: Run) -> Point:
        """The best value of the metric, the earliest of equals; step 0 and NaN where the run has none."""
        return best(run, self.metric, self.lower_is_better)

    def _group(self, runs: tuple[Run, ...]) -> Group:
        measured = [run for run in runs if self.metric in run.curves]
        return Group(
            runs,
            spread([self.final(run).value for run in measured]),
            spread([self.best(run).value for run in measured]),
        )


def compare(runs: Sequence[Run], metric: str) -> Comparison:
    """Puts runs side by side, best first."""
    lower = lower_is_better(metric)
    ranked = sorted(runs, key=lambda run: rank(best(run, metric, lower).value, lower))
    return Comparison(tuple(ranked), differing_keys(runs), metric, lower)


def differing_keys(runs: Sequence[Run]) -> tuple[str, ...]:
    """The settings in which runs differ, those that only some have among them; in the order of a config, seed last."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    differing = [key for key in keys if len({(key in run.settings, run.settings.get(key)) for run in runs}) > 1]
    return tuple(sorted(differing, key=lambda key: key == SEED))


def choose_metric(runs: Sequence[Run], name: str) -> str:
    """The whole name of a metric, which may be given without ``eval/``; by default what the runs' configs say is best.

    Raises:
      InputError: no run has it, or the configs do not agree on one.
    """
    if not name:
        named = sorted({f"eval/{run.settings.get('eval.best_metric', 'loss')}" for run in runs})
        if len(named) > 1:
            raise InputError(f"the runs' configs name {' and '.join(named)} as best metric; choose with --metric=…")
        name = named[0]
    there = sorted({metric for run in runs for metric in run.curves})
    for whole in (name, f"eval/{name}"):
        if whole in there:
            return whole
    near = difflib.get_close_matches(name, [*there, *(metric.rpartition("/")[2] for metric in there)], n=1)
    raise InputError(
        f"--metric={name}: no run has recorded it"
        + (f"; did you mean {near[0]}?" if near else "")
        + f" (there are {', '.join(there)})"
    )


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric, such as ``eval/wer``, is better; of one that is not known here, more is.

    Raises:
      InputError: the metric is an import path that cannot be imported.
    """
    name = metric.rpartition("/")[2]
    return metrics.lower_is_better(name) if is_import_path(name) else bool(known_direction(metric))


def known_direction(metric: str) -> bool | None:
    """Whether less of a metric is better; None where neither end is known to be, as of a learning rate."""
    name = metric.rpartition("/")[2]
    try:
        return name in _COSTS or metrics.lower_is_better(name)
    except (ValueError, InputError):  # an unknown metric, or one whose module cannot be imported here
        return None


def final(run: Run, metric: str) -> Point:
    """The last value that a run recorded of a metric; step 0 and NaN where there is none."""
    curve = run.curves.get(metric)
    return Point(0, math.nan) if curve is None else Point(int(curve.steps[-1]), float(curve.values[-1]))


def best(run: Run, metric: str, lower_is_better: bool) -> Point:
    """The best value that a run recorded of a metric, the earliest of equals.

    What is not a number is worst: it is the best only of a run that has nothing else.
    """
    curve = run.curves.get(metric)
    return Point(0, math.nan) if curve is None else best_of(curve, lower_is_better)


def best_of(curve: Curve, lower_is_better: bool) -> Point:
    """The best value of a curve, as ``best`` says it."""
    costs = curve.values if lower_is_better else -curve.values
    i = int(np.argmin(np.where(np.isnan(costs), np.inf, costs)))
    return Point(int(curve.steps[i]), float(curve.values[i]))


def rank(value: float, lower_is_better: bool) -> tuple[bool, float]:
    """What to sort by for the best to come first and what is not a number last."""
    return math.isnan(value), 0.0 if math.isnan(value) else value if lower_is_better else -value


def spread(values: Sequence[float]) -> Spread:
    """Mean and deviation; NaN where there are too few values for it, or one of them is."""
    mean = float(np.mean(values)) if values else math.nan
    return Spread(mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan)
