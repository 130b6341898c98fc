"""Figures of a comparison: learning curves of all runs, and the metric against each differing setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flaxformer_lite.compare.comparison import SEED, Comparison, RunRecord
from flaxformer_lite.errors import write_errors_named
from flaxformer_lite.system.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PALETTE = ("#1056b5", "#b93c12", "#12a48a", "#c9831a", "#9972d3", "#242a6b", "#6b0020", "#754a6d")
_RAMP = ("#31105e", "#34409a", "#106a85", "#2c8048", "#bf8400")  # darkest to lightest, readable on white
_WIDTH = 5.2  # inches, about the text width of a page
_DPI = 220
_MAX_LEGEND = 8

Colors = Callable[[RunRecord], Any]


def draw(comparison: Comparison, path: Path) -> list[Path]:
    """Draws ``curves.png`` and one ``by_KEY.png`` per differing setting into a directory; returns their paths.

    The seed gets a figure only where runs differ in nothing else.

    Raises:
      InputError: the disk is full.
    """
    keys = [key for key in comparison.keys if key != SEED] or list(comparison.keys)
    with write_errors_named(path):
        path.mkdir(parents=True, exist_ok=True)
    paths = [_save(_curves(comparison, keys), path / "curves.png")]
    return paths + [_save(_against(comparison, key), path / f"by_{key}.png") for key in keys]


def _figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, length=2)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    with atomic_write(path) as draft:
        figure.savefig(draft, format="png")
    return path


def _curves(comparison: Comparison, keys: Sequence[str]) -> Figure:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    shown = [run for run in comparison.runs if comparison.metric in run.curves]
    named = len(shown) <= _MAX_LEGEND
    figure, axes = _figure(height=3.2 + 0.12 * len(shown) * named)
    varied = max(keys, key=lambda key: len(_values(comparison.runs, key)), default="")
    colors = _colors_by_setting(comparison, varied, figure, axes) if varied and not named else _colors_by_run(shown)
    for run in reversed(shown):  # the best one on top
        steps, values = run.curves[comparison.metric]
        axes.plot(
            steps,
            np.where(np.isfinite(values), values, np.nan),
            color=colors(run),
            linewidth=1.4 if named else 0.8,
            alpha=1 if named else 0.75,
            marker="o" if len(steps) <= 25 else "",
            markersize=2.5 if named else 1.5,
            label=_escape(run.name),
        )
    if named and shown:
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], names[::-1], frameon=False, fontsize=7, loc="outside lower center")
    if not shown:
        _mark_empty(axes)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel(comparison.metric, fontsize=9)
    return figure


def _colors_by_run(runs: Sequence[RunRecord]) -> Colors:
    indices = {id(run): i for i, run in enumerate(runs)}
    if len(runs) <= len(_PALETTE):
        return lambda run: _PALETTE[indices[id(run)]]
    ramp = _ramp()
    return lambda run: ramp(indices[id(run)] / (len(runs) - 1))


def _colors_by_setting(comparison: Comparison, key: str, figure: Figure, axes: Axes) -> Colors:
    """Colors by the value of a setting; draws their legend, or a color bar where there are many values."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.lines import Line2D

    values = _values(comparison.runs, key)
    ramp = _ramp()
    if len(values) > _MAX_LEGEND and _numeric(values):
        norm = (LogNorm if _is_log_scaled(values) else Normalize)(values[0], values[-1])
        bar = figure.colorbar(ScalarMappable(norm, ramp), ax=axes, pad=0.02)
        bar.set_label(key, fontsize=8)
        bar.ax.tick_params(labelsize=7)
        return lambda run: ramp(norm(run.settings[key])) if key in run.settings else "#8b8f96"
    if _numeric(values) or len(values) > len(_PALETTE):
        shades = {value: ramp(i / max(1, len(values) - 1)) for i, value in enumerate(values)}
    else:
        shades = dict(zip(values, _PALETTE, strict=False))
    handles = [
        Line2D([], [], color=shades[value], label=_escape(_format_value(value))) for value in values[:_MAX_LEGEND]
    ]
    title = key if len(values) <= _MAX_LEGEND else f"{key} (the first {_MAX_LEGEND} of {len(values)})"
    figure.legend(
        handles=handles, title=title, title_fontsize=8, fontsize=8, frameon=False, ncols=4, loc="outside lower center"
    )
    return lambda run: shades.get(run.settings.get(key), "#8b8f96")


def _against(comparison: Comparison, key: str) -> Figure:
    figure, axes = _figure(height=2.8)
    runs = [run for run in comparison.runs if key in run.settings and math.isfinite(comparison.best(run).value)]
    values = _values(runs, key)
    as_numbers = _numeric(values) and len(values) > 2 and key != SEED
    positions = values if as_numbers else range(len(values))
    position = dict(zip(values, positions, strict=True))
    best = {id(run): comparison.best(run).value for run in runs}
    axes.plot(
        [position[run.settings[key]] for run in runs],
        [best[id(run)] for run in runs],
        linestyle="",
        marker="o",
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.5,
        color=_PALETTE[0],
        alpha=0.8,
    )
    for value in values:
        group = [best[id(run)] for run in runs if run.settings[key] == value]
        if len(group) > 1:
            axes.plot(position[value], np.mean(group), marker="_", markersize=16, markeredgewidth=1.6, color="black")
    _set_ticks(axes, values, as_numbers)
    if not runs:
        _mark_empty(axes)
    axes.set_xlabel(key, fontsize=9)
    axes.set_ylabel(f"{'lowest' if comparison.lower_is_better else 'highest'} {comparison.metric}", fontsize=9)
    return figure


def _set_ticks(axes: Axes, values: Sequence[Any], as_numbers: bool) -> None:
    """Sets ticks at the values, unless there are too many."""
    if as_numbers and _is_log_scaled(values):
        axes.set_xscale("log")
    if as_numbers and len(values) > _MAX_LEGEND:
        return
    positions = list(values) if as_numbers else list(range(len(values)))
    axes.minorticks_off()
    if not as_numbers:
        axes.set_xlim(-0.6, max(len(values), 1) - 0.4)
    labels = [_escape(_format_value(value)) for value in values]
    crowded = sum(map(len, labels)) > 60
    axes.set_xticks(positions, labels, rotation=30 if crowded else 0, ha="right" if crowded else "center")


def _values(runs: Sequence[RunRecord], key: str) -> list[Any]:
    """The distinct values of a setting in order, numbers by size and others alphabetically."""
    values = {run.settings[key] for run in runs if key in run.settings}
    return sorted(values) if _numeric(values) else sorted(values, key=_format_value)


def _numeric(values: Any) -> bool:
    return bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _is_log_scaled(values: Sequence[float]) -> bool:
    """Whether the values are spaced more like 1, 10, 100 than like 1, 2, 3."""
    if len(values) < 3 or min(values) <= 0:
        return False
    variation, log_variation = (np.std(gaps) / np.mean(gaps) for gaps in (np.diff(values), np.diff(np.log(values))))
    ratio = max(values) / min(values)
    return bool(ratio >= 50 or (ratio >= 4 and log_variation < 0.7 * variation))


def _format_value(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_format_value, value)) or "()"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def _escape(text: str) -> str:
    """Prevents that matplotlib reads a text as a formula, or as a label to omit."""
    return (" " + text if text.startswith("_") else text).replace("$", r"\$")


def _ramp() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("ramp", _RAMP)


def _mark_empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no run has a value", transform=axes.transAxes, ha="center", fontsize=9, color="#585e67")
