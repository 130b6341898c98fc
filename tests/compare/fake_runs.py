"""Fake runs, in memory and as work directories."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxformer_lite.compare.comparison import Curve, RunRecord
from flaxformer_lite.config import parsing
from tests.micro_config import micro

DEFAULTS = {"train.steps": 100, "eval.best_metric": "wer", "eval.metrics": ("wer", "per")}


def make_run(name: str, values: Sequence[float], **settings: Any) -> RunRecord:
    """A run in memory with ``eval/wer`` at steps 10, 20, …."""
    steps = 10 * (1 + np.arange(len(values)))
    curves = {"eval/wer": Curve(steps, np.array(values, float))} if len(values) else {}
    return RunRecord(name, Path(name), settings, curves, done=True)


def write_run(path: Path, lines: Sequence[Mapping[str, Any] | str], changes: Mapping[str, Any] | None = None) -> Path:
    """Writes config.json and metrics.jsonl; lines that are text are written unchanged."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(parsing.to_dict(micro(DEFAULTS | dict(changes or {})))), "utf-8")
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (path / "metrics.jsonl").write_text("".join(f"{text}\n" for text in texts), "utf-8")
    return path


def wer(*values: float) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl with ``eval/wer`` at steps 10, 20, …; NaN is null."""
    return [{"step": 10 * i, "eval/wer": None if math.isnan(v) else v} for i, v in enumerate(values, start=1)]
