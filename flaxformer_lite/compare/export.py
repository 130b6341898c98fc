"""CSV and JSON of a comparison, in full precision."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from flaxformer_lite.compare.comparison import (
    SEED,
    Comparison,
    MeanStd,
    RunRecord,
    SeedGroup,
    best_point,
    final_point,
    lower_is_better,
)
from flaxformer_lite.system import json_text


def to_csv(comparison: Comparison) -> str:
    """One row per run, best first: the settings that differ, and the final and best value of each metric.

    A cell is empty where a run has no such setting or metric, and ``nan`` where a value was not finite.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    measured = [f"{metric} {what}" for metric in comparison.metrics for what in ("final", "best", "best step")]
    rows.writerow(["run", "folder", "done", "step", *comparison.keys, *measured])
    for run in comparison.runs:
        settings = [_cell(run.settings[key]) if key in run.settings else "" for key in comparison.keys]
        values = [value for metric in comparison.metrics for value in _metric_cells(run, metric)]
        rows.writerow([run.name, run.path, run.done, run.step, *settings, *values])
    return text.getvalue()


def to_json(comparison: Comparison, significance: Sequence[Any] = ()) -> str:
    """The same, the groups over seeds, and the results of significance tests; values that are not finite are null."""
    values = {
        "metric": comparison.metric,
        "lower_is_better": comparison.lower_is_better,
        "keys": comparison.keys,
        "runs": [_run(run, comparison) for run in comparison.runs],
        "groups": [_group(group, comparison) for group in comparison.groups],
        "significance": significance,
    }
    return json_text.to_json(values, indent=1) + "\n"


def _run(run: RunRecord, comparison: Comparison) -> dict[str, Any]:
    return {
        "name": run.name,
        "folder": str(run.path),
        "done": run.done,
        "step": run.step,
        "settings": {key: run.settings[key] for key in comparison.keys if key in run.settings},
        "metrics": {metric: _metric(run, metric) for metric in comparison.metrics if metric in run.curves},
    }


def _metric(run: RunRecord, metric: str) -> dict[str, Any]:
    final, best = final_point(run, metric), best_point(run, metric, lower_is_better(metric))
    return {"final": final.value, "final_step": final.step, "best": best.value, "best_step": best.step}


def _group(group: SeedGroup, comparison: Comparison) -> dict[str, Any]:
    settings = group.runs[0].settings
    return {
        "runs": [run.name for run in group.runs],
        "settings": {key: settings[key] for key in comparison.keys if key != SEED and key in settings},
        "final": _statistics(group.final),
        "best": _statistics(group.best),
    }


def _statistics(statistics: MeanStd) -> dict[str, float]:
    return {"mean": statistics.mean, "deviation": statistics.std}


def _metric_cells(run: RunRecord, metric: str) -> tuple[Any, Any, Any]:
    if metric not in run.curves:
        return "", "", ""
    best = best_point(run, metric, lower_is_better(metric))
    return final_point(run, metric).value, best.value, best.step


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, tuple) else value
