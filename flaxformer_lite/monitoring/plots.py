"""Plots of a run: one small panel for each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = {"train": "#4477aa", "eval": "#cc5533"}
_TITLES = {
    "loss": "loss per target token",
    "tokens_per_second": "target tokens per second",
    "wer": "word error rate (%)",
    "per": "phone error rate (%)",
    "exact_match": "exact match (%)",
    "bleu": "BLEU",
    "chrf": "chrF",
}
_COLUMNS = 3


def draw(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the lines of metrics.jsonl into a PNG file.

    ``train/loss`` and ``eval/loss`` share the panel "loss"; so do all names that agree after the slash.
    """
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    panels = _panels(lines)
    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(4.2 * min(_COLUMNS, len(panels)), 2.7 * rows), dpi=120, layout="constrained")
    axes = np.ravel(figure.subplots(rows, min(_COLUMNS, len(panels)), squeeze=False))
    for axis, (name, series) in zip(axes, panels.items(), strict=False):
        _draw_panel(axis, name, series)
        axis.set_xlim(0, 1.03 * max(line["step"] for line in lines) + 1)  # equal in all panels, to compare them
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.supxlabel("step", fontsize=9)
    figure.savefig(path, format="png")


def _panels(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """The points (step, value) of each panel and split: the loss, then evaluation metrics, then the others.

    Metrics of groups, such as ``eval/bleu/news``, are left out: there may be a hundred.
    """
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for line in lines:
        for name, value in line.items():
            split, slash, metric = name.partition("/")
            if slash and "/" not in metric and value is not None:
                panels.setdefault(metric, {}).setdefault(split, []).append((line["step"], value))
    return dict(sorted(panels.items(), key=lambda panel: (panel[0] != "loss", "eval" not in panel[1])))


def _draw_panel(axes: Axes, name: str, series: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    for split, points in series.items():
        steps, values = np.array(points, float).T
        color = _COLORS.get(split, "#555555")
        if np.abs(np.diff(values)).sum() > 10 * np.ptp(values):  # so noisy that its line would be a band
            axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.6)
            values = _running_mean(values, width=max(1, len(points) // 50))
        last = values[-1]
        axes.plot(
            steps,
            values,
            color=color,
            linewidth=1.4,
            marker="o" if len(points) < 40 else "",
            markersize=3,
            label=f"{split}  {last:,.0f}" if abs(last) >= 1000 else f"{split}  {last:.4g}",
        )
    axes.set_title(_TITLES.get(name, name.replace("_", " ")), loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, handlelength=1.2)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.tick_params(labelsize=8, length=2)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of the ``width`` values around each; of fewer at the ends."""
    window = np.ones(width)
    return np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")
