"""The pictures of a comparison, for papers: curves of all runs, and the metric against each setting that differs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flaxformer_lite.compare.runs import SEED, Comparison, Run
from flaxformer_lite.errors import write_errors_named
from flaxformer_lite.system.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KINDS = ("#1056b5", "#b93c12", "#12a48a", "#c9831a", "#9972d3", "#242a6b", "#6b0020", "#754a6d")
_RAMP = ("#31105e", "#34409a", "#106a85", "#2c8048", "#bf8400")  # darkest to lightest, readable on white
_WIDTH = 5.2  # inches; of a page's text, about
_DPI = 220
_MOST_NAMES = 8  # of runs in a legend

Colors = Callable[[Run], Any]


def draw(comparison: Comparison, folder: Path) -> list[Path]:
    """Draws ``curves.png`` and a ``by_KEY.png`` for each setting in which runs differ; returns their paths.

    Seeds get a picture where runs differ in nothing else; elsewhere they are the points at one value.

    Raises:
      InputError: the disk is full.
    """
    keys = [key for key in comparison.keys if key != SEED] or list(comparison.keys)
    with write_errors_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [_save(_curves(comparison, keys), folder / "curves.png")]
    return paths + [_save(_against(comparison, key), folder / f"by_{key}.png") for key in keys]


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
    named = len(shown) <= _MOST_NAMES
    figure, axes = _figure(height=3.2 + 0.12 * len(shown) * named)
    telling = max(keys, key=lambda key: len(_values(comparison.runs, key)), default="")
    colors = _by_setting(comparison, telling, figure, axes) if telling and not named else _by_kind(shown)
    for run in reversed(shown):  # the best one last, above the others
        steps, values = run.curves[comparison.metric]
        axes.plot(
            steps,
            np.where(np.isfinite(values), values, np.nan),
            color=colors(run),
            linewidth=1.4 if named else 0.8,
            alpha=1 if named else 0.75,
            marker="o" if len(steps) <= 25 else "",
            markersize=2.5 if named else 1.5,
            label=_plain(run.name),
        )
    if named and shown:
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], names[::-1], frameon=False, fontsize=7, loc="outside lower center")
    if not shown:
        _say_nothing(axes)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel(comparison.metric, fontsize=9)
    return figure


def _by_kind(runs: Sequence[Run]) -> Colors:
    places = {id(run): i for i, run in enumerate(runs)}
    if len(runs) <= len(_KINDS):
        return lambda run: _KINDS[places[id(run)]]
    ramp = _ramp()
    return lambda run: ramp(places[id(run)] / (len(runs) - 1))


def _by_setting(comparison: Comparison, key: str, figure: Figure, axes: Axes) -> Colors:
    """Colors by the value of a setting, and their legend, or a scale where there are many values."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.lines import Line2D

    values = _values(comparison.runs, key)
    ramp = _ramp()
    if len(values) > _MOST_NAMES and _numeric(values):
        norm = (LogNorm if _log_spread(values) else Normalize)(values[0], values[-1])
        bar = figure.colorbar(ScalarMappable(norm, ramp), ax=axes, pad=0.02)
        bar.set_label(key, fontsize=8)
        bar.ax.tick_params(labelsize=7)
        return lambda run: ramp(norm(run.settings[key])) if key in run.settings else "#8b8f96"
    if _numeric(values) or len(values) > len(_KINDS):
        shades = {value: ramp(i / max(1, len(values) - 1)) for i, value in enumerate(values)}
    else:
        shades = dict(zip(values, _KINDS, strict=False))
    handles = [Line2D([], [], color=shades[value], label=_plain(_word(value))) for value in values[:_MOST_NAMES]]
    title = key if len(values) <= _MOST_NAMES else f"{key} (the first {_MOST_NAMES} of {len(values)})"
    figure.legend(
        handles=handles, title=title, title_fontsize=8, fontsize=8, frameon=False, ncols=4, loc="outside lower center"
    )
    return lambda run: shades.get(run.settings.get(key), "#8b8f96")


def _against(comparison: Comparison, key: str) -> Figure:
    figure, axes = _figure(height=2.8)
    runs = [run for run in comparison.runs if key in run.settings and math.isfinite(comparison.best(run).value)]
    values = _values(runs, key)
    as_numbers = _numeric(values) and len(values) > 2 and key != SEED
    places = values if as_numbers else range(len(values))
    place = dict(zip(values, places, strict=True))
    best = {id(run): comparison.best(run).value for run in runs}
    axes.plot(
        [place[run.settings[key]] for run in runs],
        [best[id(run)] for run in runs],
        linestyle="",
        marker="o",
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.5,
        color=_KINDS[0],
        alpha=0.8,
    )
    for value in values:
        alike = [best[id(run)] for run in runs if run.settings[key] == value]
        if len(alike) > 1:
            axes.plot(place[value], np.mean(alike), marker="_", markersize=16, markeredgewidth=1.6, color="black")
    _name_places(axes, values, as_numbers)
    if not runs:
        _say_nothing(axes)
    axes.set_xlabel(key, fontsize=9)
    axes.set_ylabel(f"{'lowest' if comparison.lower_is_better else 'highest'} {comparison.metric}", fontsize=9)
    return figure


def _name_places(axes: Axes, values: Sequence[Any], as_numbers: bool) -> None:
    """Ticks where the values are, as long as they can be told apart."""
    if as_numbers and _log_spread(values):
        axes.set_xscale("log")
    if as_numbers and len(values) > _MOST_NAMES:
        return
    places = list(values) if as_numbers else list(range(len(values)))
    axes.minorticks_off()
    if not as_numbers:
        axes.set_xlim(-0.6, max(len(values), 1) - 0.4)
    words = [_plain(_word(value)) for value in values]
    crowded = sum(map(len, words)) > 60
    axes.set_xticks(places, words, rotation=30 if crowded else 0, ha="right" if crowded else "center")


def _values(runs: Sequence[Run], key: str) -> list[Any]:
    """The distinct values of a setting, numbers by size and all else by the alphabet."""
    values = {run.settings[key] for run in runs if key in run.settings}
    return sorted(values) if _numeric(values) else sorted(values, key=_word)


def _numeric(values: Any) -> bool:
    return bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _log_spread(values: Sequence[float]) -> bool:
    """Whether numbers are spread as 1, 10, 100 rather than as 1, 2, 3, and are to be drawn by their logarithms."""
    if len(values) < 3 or min(values) <= 0:
        return False
    unevenness, of_logarithms = (np.std(gaps) / np.mean(gaps) for gaps in (np.diff(values), np.diff(np.log(values))))
    ratio = max(values) / min(values)
    return bool(ratio >= 50 or (ratio >= 4 and of_logarithms < 0.7 * unevenness))


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_word, value)) or "()"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def _plain(text: str) -> str:
    """A text that matplotlib takes for nothing else: neither for a formula nor for a label to be left out."""
    return (" " + text if text.startswith("_") else text).replace("$", r"\$")


def _ramp() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("by value", _RAMP)


def _say_nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no run has a value", transform=axes.transAxes, ha="center", fontsize=9, color="#585e67")
