"""A comparison as text, for people: as many columns side by side as fit, the rest below."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from flaxformer_lite.compare.runs import SEED, Comparison, Group, Run, Spread
from flaxformer_lite.config import parsing

_LONGEST = 28  # characters of a setting; what is longer loses its middle
_GAP = "  "


class Column(NamedTuple):
    """A heading and a text for each row; numbers stand right."""

    heading: str
    cells: Sequence[str]
    right: bool


def render(comparison: Comparison, width: int) -> str:
    """The tables of a comparison: the means over seeds, where there are several runs of one config, and the runs."""
    direction = "lower" if comparison.lower_is_better else "higher"
    title = f"{comparison.metric} ({direction} is better), {_count(len(comparison.runs), 'run')}, best first"
    runs = "\n".join(lay_out(_run_columns(comparison), width))
    if len(comparison.groups) == len(comparison.runs):
        return f"{title}\n\n{runs}\n"
    groups = "\n".join(lay_out(_group_columns(comparison), width))
    return f"{title}\n\nmean ± deviation over seeds\n\n{groups}\n\neach run\n\n{runs}\n"


def lay_out(columns: Sequence[Column], width: int) -> Iterator[str]:
    """The lines of a table: its columns in order, in blocks that are no wider than asked for.

    Each block begins with the first column again, which tells the rows apart. A column that is too wide by itself
    stands in a block of its own.
    """
    first, *others = columns
    while others:
        block, room = [first], width - _width(first)
        while others and (len(block) == 1 or _width(others[0]) + len(_GAP) <= room):
            room -= _width(others[0]) + len(_GAP)
            block.append(others.pop(0))
        for cells in zip(*([column.heading, *column.cells] for column in block), strict=True):
            padded = [
                cell.rjust(_width(column)) if column.right else cell.ljust(_width(column))
                for cell, column in zip(cells, block, strict=True)
            ]
            yield _GAP.join(padded).rstrip()
        if others:
            yield ""


def decimals(values: Sequence[float]) -> int:
    """How many decimals give the largest of these numbers four digits; none of one above 1,000."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return min(max(3 - math.floor(math.log10(largest)), 0), 6) if largest else 2


def _run_columns(comparison: Comparison) -> list[Column]:
    runs = comparison.runs
    best, last = [comparison.best(run) for run in runs], [comparison.final(run) for run in runs]
    places = decimals([point.value for point in [*best, *last]])
    run_names = [run.name for run in runs]
    names = Column("run", run_names, right=False)
    columns = [
        Column("best", [_number(p.value, places, p.step > 0) for p in best], right=True),
        Column("at step", [f"{p.step:,}" if p.step else "–" for p in best], right=True),
        Column("final", [_number(p.value, places, p.step > 0) for p in last], right=True),
    ]
    if not all(run.done for run in runs):
        columns.append(Column("done", [_progress(run) for run in runs], right=False))
    columns += _setting_columns(comparison, comparison.keys, runs)
    short = max(map(len, run_names)) <= _LONGEST
    return [_numbers(len(runs)), *([names, *columns] if short else [*columns, names])]


def _group_columns(comparison: Comparison) -> list[Column]:
    groups = comparison.groups
    places = decimals([spread.mean for group in groups for spread in (group.best, group.final)])
    keys = tuple(key for key in comparison.keys if key != SEED)
    seeds = Column("runs", [_members(group, comparison) for group in groups], right=True)
    columns = [
        _numbers(len(groups)),
        *(Column(name, [_spread(of(group), places) for group in groups], right=True) for name, of in _SPREADS),
        seeds,
    ]
    if not all(run.done for run in comparison.runs):
        columns.append(Column("done", [f"{sum(run.done for run in group.runs)}" for group in groups], right=True))
    return columns + _setting_columns(comparison, keys, [group.runs[0] for group in groups])


_SPREADS: tuple[tuple[str, Callable[[Group], Spread]], ...] = (
    ("best", lambda group: group.best),
    ("final", lambda group: group.final),
)


def _members(group: Group, comparison: Comparison) -> str:
    measured = sum(comparison.metric in run.curves for run in group.runs)
    return str(measured) if measured == len(group.runs) else f"{measured} of {len(group.runs)}"


def _setting_columns(comparison: Comparison, keys: Sequence[str], runs: Sequence[Run]) -> list[Column]:
    known = sorted({key for run in comparison.runs for key in run.settings})
    return [_setting_column(parsing.short_name(key, known), key, runs) for key in keys]


def _setting_column(name: str, key: str, runs: Sequence[Run]) -> Column:
    cells = [_shortened(show(run.settings[key])) if key in run.settings else "–" for run in runs]
    return Column(name, cells, right=all(isinstance(run.settings.get(key, 0), int | float) for run in runs))


def show(value: Any) -> str:
    """A setting as the command line would take it; what is empty by its quotes or brackets."""
    return ",".join(map(show, value)) if isinstance(value, tuple) and value else f"{value}" or "''"


def _numbers(count: int) -> Column:
    return Column("#", [str(i + 1) for i in range(count)], right=True)


def _number(value: float, places: int, there: bool) -> str:
    return f"{value:,.{places}f}" if there else "–"


def _spread(spread: Spread, places: int) -> str:
    if math.isnan(spread.mean):
        return "–"
    return f"{spread.mean:,.{places}f}" + ("" if math.isnan(spread.deviation) else f" ± {spread.deviation:,.{places}f}")


def _progress(run: Run) -> str:
    steps = run.settings.get("train.steps")
    return "yes" if run.done else f"at {run.step:,}" + (f" of {steps:,}" if isinstance(steps, int) else "")


def _shortened(text: str) -> str:
    half = (_LONGEST - 1) // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[-half:]}"


def _width(column: Column) -> int:
    return max(map(len, [column.heading, *column.cells]))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
