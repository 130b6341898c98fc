"""A comparison for programs: exact numbers, whole names."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from flaxformer_lite.compare.runs import SEED, Comparison, Group, Run, Spread, best, final, lower_is_better


def to_csv(comparison: Comparison) -> str:
    """A row for each run, best first: the settings that differ, and of every metric its final and its best value.

    A cell is empty where a run has no such setting or metric, ``nan`` where a metric was not finite.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    measured = [f"{metric} {what}" for metric in comparison.metrics for what in ("final", "best", "best step")]
    rows.writerow(["run", "folder", "done", "step", *comparison.keys, *measured])
    for run in comparison.runs:
        settings = [_cell(run.settings[key]) if key in run.settings else "" for key in comparison.keys]
        values = [value for metric in comparison.metrics for value in _row(run, metric)]
        rows.writerow([run.name, run.folder, run.done, run.step, *settings, *values])
    return text.getvalue()


def to_json(comparison: Comparison, trial: Sequence[Any] = ()) -> str:
    """The same, the groups, and what a trial of the runs' decodes found; what was not finite is null."""
    values = {
        "metric": comparison.metric,
        "lower_is_better": comparison.lower_is_better,
        "keys": comparison.keys,
        "runs": [_run(run, comparison) for run in comparison.runs],
        "groups": [_group(group, comparison) for group in comparison.groups],
        "significance": trial,
    }
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _run(run: Run, comparison: Comparison) -> dict[str, Any]:
    return {
        "name": run.name,
        "folder": str(run.folder),
        "done": run.done,
        "step": run.step,
        "settings": {key: run.settings[key] for key in comparison.keys if key in run.settings},
        "metrics": {metric: _measured(run, metric) for metric in comparison.metrics if metric in run.curves},
    }


def _measured(run: Run, metric: str) -> dict[str, Any]:
    last, top = final(run, metric), best(run, metric, lower_is_better(metric))
    return {
        "final": _finite(last.value),
        "final_step": last.step,
        "best": _finite(top.value),
        "best_step": top.step,
    }


def _group(group: Group, comparison: Comparison) -> dict[str, Any]:
    settings = group.runs[0].settings
    return {
        "runs": [run.name for run in group.runs],
        "settings": {key: settings[key] for key in comparison.keys if key != SEED and key in settings},
        "final": _spread(group.final),
        "best": _spread(group.best),
    }


def _spread(spread: Spread) -> dict[str, float | None]:
    return {"mean": _finite(spread.mean), "deviation": _finite(spread.deviation)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _row(run: Run, metric: str) -> tuple[Any, Any, Any]:
    if metric not in run.curves:
        return "", "", ""
    top = best(run, metric, lower_is_better(metric))
    return final(run, metric).value, top.value, top.step


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, tuple) else value
