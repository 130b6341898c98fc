"""Text tables of a comparison for the terminal: as many columns side by side as fit, the others below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from flaxformer_lite.compare.comparison import SEED, Comparison, MeanStd, RunRecord, SeedGroup
from flaxformer_lite.config import config_keys

_MAX_CELL = 28  # characters of a setting; longer ones lose their middle
_GAP = "  "


class Column(NamedTuple):
    """A heading and one cell per row."""

    heading: str
    cells: Sequence[str]
    right: bool  # alignment

    @property
    def width(self) -> int:
        return max(map(len, [self.heading, *self.cells]))

    def lines(self) -> list[str]:
        """The padded heading and cells."""
        width = self.width
        return [text.rjust(width) if self.right else text.ljust(width) for text in (self.heading, *self.cells)]


def render(comparison: Comparison, width: int) -> str:
    """A table of means over seeds, where there are groups of several runs, and a table of runs."""
    direction = "lower" if comparison.lower_is_better else "higher"
    count = len(comparison.runs)
    title = f"{comparison.metric} ({direction} is better), {count:,} run{'s' * (count != 1)}, best first"
    runs = "\n".join(layout_columns(_run_columns(comparison), width))
    if len(comparison.groups) == count:
        return f"{title}\n\n{runs}\n"
    groups = "\n".join(layout_columns(_group_columns(comparison), width))
    return f"{title}\n\nmean ± standard deviation over seeds\n\n{groups}\n\neach run\n\n{runs}\n"


def layout_columns(columns: Sequence[Column], width: int) -> Iterator[str]:
    """The lines of a table whose columns are split into blocks of at most this width.

    Each block starts with the first column, which identifies the rows. A column that is too wide is a block alone.
    """
    first, *others = columns
    while others:
        block, room = [first], width - first.width
        while others and (len(block) == 1 or others[0].width + len(_GAP) <= room):
            room -= others[0].width + len(_GAP)
            block.append(others.pop(0))
        for cells in zip(*(column.lines() for column in block), strict=True):
            yield _GAP.join(cells).rstrip()
        if others:
            yield ""


def decimals(values: Sequence[float]) -> int:
    """The number of decimals that shows four digits of the largest value; 0 above 1,000."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return min(max(3 - math.floor(math.log10(largest)), 0), 6) if largest else 2


def format_setting(value: Any) -> str:
    """A config value as an override would write it; an empty one by its quotes or brackets."""
    return ",".join(map(format_setting, value)) if isinstance(value, tuple) and value else f"{value}" or "''"


def _run_columns(comparison: Comparison) -> list[Column]:
    runs = comparison.runs
    best, last = [comparison.best(run) for run in runs], [comparison.final(run) for run in runs]
    places = decimals([point.value for point in [*best, *last]])
    names = Column("run", [run.name for run in runs], right=False)
    columns = [
        Column("best", [_format_number(p.value, places, p.step > 0) for p in best], right=True),
        Column("at step", [f"{p.step:,}" if p.step else "–" for p in best], right=True),
        Column("final", [_format_number(p.value, places, p.step > 0) for p in last], right=True),
    ]
    if not all(run.done for run in runs):
        columns.append(Column("done", [_format_progress(run) for run in runs], right=False))
    columns += _setting_columns(comparison, comparison.keys, runs)
    return [_row_numbers(len(runs)), *([names, *columns] if names.width <= _MAX_CELL else [*columns, names])]


def _group_columns(comparison: Comparison) -> list[Column]:
    groups = comparison.groups
    places = decimals([statistics.mean for group in groups for statistics in (group.best, group.final)])
    keys = tuple(key for key in comparison.keys if key != SEED)
    columns = [
        _row_numbers(len(groups)),
        Column("best", [_format_mean(group.best, places) for group in groups], right=True),
        Column("final", [_format_mean(group.final, places) for group in groups], right=True),
        Column("runs", [_format_count(group, comparison) for group in groups], right=True),
    ]
    if not all(run.done for run in comparison.runs):
        columns.append(Column("done", [f"{sum(run.done for run in group.runs)}" for group in groups], right=True))
    return columns + _setting_columns(comparison, keys, [group.runs[0] for group in groups])


def _setting_columns(comparison: Comparison, keys: Sequence[str], runs: Sequence[RunRecord]) -> list[Column]:
    known = sorted({key for run in comparison.runs for key in run.settings})
    return [_setting_column(config_keys.short_name(key, known), key, runs) for key in keys]


def _setting_column(name: str, key: str, runs: Sequence[RunRecord]) -> Column:
    cells = [_shorten(format_setting(run.settings[key])) if key in run.settings else "–" for run in runs]
    return Column(name, cells, right=all(isinstance(run.settings.get(key, 0), int | float) for run in runs))


def _row_numbers(count: int) -> Column:
    return Column("#", [str(i + 1) for i in range(count)], right=True)


def _format_number(value: float, places: int, recorded: bool) -> str:
    return f"{value:,.{places}f}" if recorded else "–"


def _format_mean(statistics: MeanStd, places: int) -> str:
    if math.isnan(statistics.mean):
        return "–"
    std = "" if math.isnan(statistics.std) else f" ± {statistics.std:,.{places}f}"
    return f"{statistics.mean:,.{places}f}{std}"


def _format_count(group: SeedGroup, comparison: Comparison) -> str:
    measured = sum(comparison.metric in run.curves for run in group.runs)
    return str(measured) if measured == len(group.runs) else f"{measured} of {len(group.runs)}"


def _format_progress(run: RunRecord) -> str:
    steps = run.settings.get("train.steps")
    return "yes" if run.done else f"at {run.step:,}" + (f" of {steps:,}" if isinstance(steps, int) else "")


def _shorten(text: str) -> str:
    half = (_MAX_CELL - 1) // 2
    return text if len(text) <= _MAX_CELL else f"{text[:half]}…{text[-half:]}"
