"""What people see of a sweep: a table that is drawn over itself in a terminal, a line for each event elsewhere."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flaxformer_lite.metrics.compute import lower_is_better
from flaxformer_lite.sweeps.status import Phase, Standing, metric_of
from flaxformer_lite.sweeps.suggesters import Source, Standings
from flaxformer_lite.sweeps.trials import Point
from flaxformer_lite.system.console import format_duration

logger = logging.getLogger(__name__)

_EVERY = 1.0  # seconds between two drawings
_STOPPING = "stopping: every run saves first …"
_FIRST_SHOWN = (
    *(Phase.RUNNING, Phase.QUEUED, Phase.FAILED, Phase.INTERRUPTED, Phase.NEW),
    *(Phase.DONE, Phase.PRUNED),
)


class _Start(NamedTuple):
    clock: float
    step: int


class Pace:
    """How fast each run goes, evaluations and all, as seen from here."""

    def __init__(self):
        self._starts: dict[str, _Start] = {}

    def left(self, point: Point, standing: Standing, clock: float) -> float | None:
        """Seconds until the last step; None where that is not to be told yet."""
        if standing.phase is not Phase.RUNNING:
            self._starts.pop(point.name, None)
            return None
        step = standing.progress.step
        start = self._starts.setdefault(point.name, _Start(clock, step))
        if start.step == 0 < step:  # begin to count where the first steps are done: what came before was compiling
            start = self._starts[point.name] = _Start(clock, step)
        if step <= start.step:
            return None
        return (point.config.train.steps - step) * (clock - start.clock) / (step - start.step)


class LiveTable:
    """A table in a terminal."""

    def __init__(self):
        self._pace = Pace()
        self._drawn = 0  # lines
        self._next = 0.0
        self._phases: list[Phase] = []

    def __call__(self, source: Source, standings: Standings, stopping: bool) -> None:
        """Draws it over the last one."""
        clock, phases = time.monotonic(), [standing.phase for standing in standings.values()]
        if clock < self._next and phases == self._phases:
            return
        self._next, self._phases = clock + _EVERY, phases
        left = {point.name: self._pace.left(point, standings[point.name], clock) for point in source.points}
        width, height = shutil.get_terminal_size()
        lines = [line[: width - 1] for line in format_table(source, standings, left, height - 2)]
        lines += [_STOPPING] * stopping
        over = f"\x1b[{self._drawn}F" if self._drawn else ""
        print(over + "\x1b[J" + "\n".join(lines), file=sys.stderr, flush=True)
        self._drawn = len(lines)


class Lines:
    """A line whenever something has happened to a point."""

    def __init__(self):
        self._last: dict[str, Standing] = {}
        self._stopping = False

    def __call__(self, source: Source, standings: Standings, stopping: bool) -> None:
        """Says what is new."""
        if stopping and not self._stopping:
            logger.info(_STOPPING)
        self._stopping = stopping
        for point in source.points:
            standing, last = standings[point.name], self._last.get(point.name)
            ending = stopping and standing.phase is Phase.QUEUED  # it has saved, and its process is not yet gone
            begun = (
                standing.phase is not Phase.NEW and (last is None or last.phase is not standing.phase) and not ending
            )
            if begun or (last and _evaluated(standing) and standing.progress.value != last.progress.value):
                logger.info(f"{point.label}: " + " ".join(filter(None, _cells(point, standing, None))))
            self._last[point.name] = standing


def format_table(source: Source, standings: Standings, left: Mapping[str, float | None], height: int) -> list[str]:
    """A line for each point; where there are more than ``height``, what is under way or has failed comes first."""
    points = source.points
    shown, end = list(points), [count(source, standings), *best(points, standings)]
    if len(points) > height - len(end):
        order = sorted(points, key=lambda point: _FIRST_SHOWN.index(standings[point.name].phase))
        kept = {point.name for point in order[: max(height - len(end), 1)]}
        shown = [point for point in points if point.name in kept]
    rows = [(point.label, *_cells(point, standings[point.name], left.get(point.name))) for point in shown]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    end[0] += f" ({len(points) - len(shown)} not shown)" * (len(shown) < len(points))
    return [*lines, *end]


def count(source: Source, standings: Standings) -> str:
    """Such as ``12 points: 3 done, 2 running, 7 new``."""
    found = Counter(standing.phase for standing in standings.values())
    parts = [f"{found[phase]} {phase}" for phase in reversed(Phase) if found[phase]]
    parts += [f"{source.to_come} to come"] if source.to_come else []
    return f"{len(standings)} point{'s' * (len(standings) != 1)}: {', '.join(parts)}"


def best(points: Sequence[Point], standings: Standings) -> list[str]:
    """A line about the best of those that are done; none where there is nothing to choose between."""
    done = [point for point in points if standings[point.name].phase is Phase.DONE]
    values = {i: value for i, point in enumerate(done) if (value := standings[point.name].progress.value) is not None}
    if len(values) < 2 or len(set(map(metric_of, done))) > 1:
        return []
    metric = metric_of(done[0])
    found = (min if lower_is_better(metric.removeprefix("eval/")) else max)(values, key=lambda i: values[i])
    return [f"best: {done[found].label}  {metric} {values[found]:.4g}"]


def _cells(point: Point, standing: Standing, left: float | None) -> tuple[str, ...]:
    step, metric, value = standing.progress
    said = standing.said.splitlines()[0] if standing.said else ""
    return (
        str(standing.phase),
        f"step {step:,}/{point.config.train.steps:,}" if step else "",
        f"{metric} {'not a number' if value is None else f'{value:.4g}'}" if metric else "",
        said or (f"{format_duration(left)} left" if left is not None else ""),
    )


def _evaluated(standing: Standing) -> bool:
    return standing.progress.metric.startswith("eval/")
