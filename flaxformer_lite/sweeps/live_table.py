"""Display of a running sweep: a table that is redrawn in a terminal, one line per event elsewhere."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flaxformer_lite.metrics.compute import lower_is_better
from flaxformer_lite.sweeps.suggester import Statuses, Suggester
from flaxformer_lite.sweeps.trial_status import TrialState, TrialStatus, metric_of
from flaxformer_lite.sweeps.trials import Trial
from flaxformer_lite.system.console import format_duration

logger = logging.getLogger(__name__)

_REDRAW_SECONDS = 1.0
_STOPPING = "stopping: every run saves a checkpoint first …"
_PRIORITY = (  # which trials are shown where not all have room
    *(TrialState.RUNNING, TrialState.QUEUED, TrialState.FAILED, TrialState.INTERRUPTED, TrialState.NEW),
    *(TrialState.DONE, TrialState.PRUNED),
)


class _Start(NamedTuple):
    seconds: float
    step: int


class TimeLeft:
    """Estimates the remaining time of each run from its progress since this process began, evaluations included."""

    def __init__(self):
        self._starts: dict[str, _Start] = {}

    def update(self, trial: Trial, status: TrialStatus, now: float) -> float | None:
        """Seconds until the last step; None where there is no estimate yet."""
        if status.state is not TrialState.RUNNING:
            self._starts.pop(trial.name, None)
            return None
        step = status.progress.step
        start = self._starts.setdefault(trial.name, _Start(now, step))
        if start.step == 0 < step:  # start at the first recorded step, which excludes compilation
            start = self._starts[trial.name] = _Start(now, step)
        if step <= start.step:
            return None
        return (trial.config.train.steps - step) * (now - start.seconds) / (step - start.step)


class LiveTable:
    """A table that is redrawn in the terminal."""

    def __init__(self):
        self._time_left = TimeLeft()
        self._num_lines = 0
        self._next_redraw = 0.0
        self._states: list[TrialState] = []

    def __call__(self, suggester: Suggester, statuses: Statuses, stopping: bool) -> None:
        now, states = time.monotonic(), [status.state for status in statuses.values()]
        if now < self._next_redraw and states == self._states:
            return
        self._next_redraw, self._states = now + _REDRAW_SECONDS, states
        left = {trial.name: self._time_left.update(trial, statuses[trial.name], now) for trial in suggester.trials}
        width, height = shutil.get_terminal_size()
        lines = [line[: width - 1] for line in format_table(suggester, statuses, left, height - 2)]
        lines += [_STOPPING] * stopping
        cursor_up = f"\x1b[{self._num_lines}F" if self._num_lines else ""
        print(cursor_up + "\x1b[J" + "\n".join(lines), file=sys.stderr, flush=True)
        self._num_lines = len(lines)


class EventLog:
    """Logs a line whenever the state or an evaluation of a trial changes."""

    def __init__(self):
        self._last: dict[str, TrialStatus] = {}
        self._stopping = False

    def __call__(self, suggester: Suggester, statuses: Statuses, stopping: bool) -> None:
        if stopping and not self._stopping:
            logger.info(_STOPPING)
        self._stopping = stopping
        for trial in suggester.trials:
            status, last = statuses[trial.name], self._last.get(trial.name)
            exiting = stopping and status.state is TrialState.QUEUED  # saved, but its process still runs
            changed = last is None or last.state is not status.state
            evaluated = status.progress.metric.startswith("eval/")
            if (changed and status.state is not TrialState.NEW and not exiting) or (
                last and evaluated and status.progress.value != last.progress.value
            ):
                logger.info(f"{trial.label}: " + " ".join(filter(None, _cells(trial, status, None))))
            self._last[trial.name] = status


def format_table(suggester: Suggester, statuses: Statuses, left: Mapping[str, float | None], height: int) -> list[str]:
    """One line per trial; where there are more than ``height``, active and failed trials are preferred."""
    trials = suggester.trials
    shown, summary = list(trials), [format_counts(suggester, statuses), *format_best(trials, statuses)]
    if len(trials) > height - len(summary):
        by_priority = sorted(trials, key=lambda trial: _PRIORITY.index(statuses[trial.name].state))
        kept = {trial.name for trial in by_priority[: max(height - len(summary), 1)]}
        shown = [trial for trial in trials if trial.name in kept]
    rows = [(trial.label, *_cells(trial, statuses[trial.name], left.get(trial.name))) for trial in shown]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    summary[0] += f" ({len(trials) - len(shown)} not shown)" * (len(shown) < len(trials))
    return [*lines, *summary]


def format_counts(suggester: Suggester, statuses: Statuses) -> str:
    """``12 trials: 3 done, 2 running, 7 new``."""
    counts = Counter(status.state for status in statuses.values())
    parts = [f"{counts[state]} {state}" for state in reversed(TrialState) if counts[state]]
    parts += [f"{suggester.num_remaining} remaining"] if suggester.num_remaining else []
    return f"{len(statuses)} trial{'s' * (len(statuses) != 1)}: {', '.join(parts)}"


def format_best(trials: Sequence[Trial], statuses: Statuses) -> list[str]:
    """A line about the best finished trial; none where fewer than two trials are comparable."""
    done = [trial for trial in trials if statuses[trial.name].state is TrialState.DONE]
    values = {i: value for i, trial in enumerate(done) if (value := statuses[trial.name].progress.value) is not None}
    if len(values) < 2 or len(set(map(metric_of, done))) > 1:
        return []
    metric = metric_of(done[0])
    best = (min if lower_is_better(metric.removeprefix("eval/")) else max)(values, key=lambda i: values[i])
    return [f"best: {done[best].label}  {metric} {values[best]:.4g}"]


def _cells(trial: Trial, status: TrialStatus, left: float | None) -> tuple[str, ...]:
    step, metric, value = status.progress
    message = status.message.splitlines()[0] if status.message else ""
    return (
        str(status.state),
        f"step {step:,}/{trial.config.train.steps:,}" if step else "",
        f"{metric} {'not finite' if value is None else f'{value:.4g}'}" if metric else "",
        message or (f"{format_duration(left)} left" if left is not None else ""),
    )
