"""Which checkpoints lie in a folder, and what is noted beside their arrays; read without jax, so at once."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flaxformer_lite.errors import InputError
from flaxformer_lite.metrics.compute import lower_is_better

AVERAGE = "average"  # the folder, among those of the checkpoints, that their mean lies in


class Evaluation(NamedTuple):
    """The best metric at one evaluation."""

    step: int
    value: float


def ranked(history: Sequence[Evaluation], metric: str) -> list[Evaluation]:
    """The evaluations from best to worst, the earliest of equals first; what is not a number is worst."""
    sign = 1 if lower_is_better(metric) else -1
    return sorted(history, key=lambda e: (math.isnan(e.value), sign * e.value, e.step))


def best(history: Sequence[Evaluation], metric: str) -> Evaluation | None:
    """The best evaluation, the earliest of equals."""
    return next(iter(ranked(history, metric)), None)


def best_first(steps: Sequence[int], history: Sequence[Evaluation], metric: str) -> list[int]:
    """These steps from best to worst; after them, as they come, those that were not evaluated."""
    evaluated = [evaluation.step for evaluation in ranked(history, metric) if evaluation.step in steps]
    return evaluated + [step for step in steps if step not in evaluated]


def check_folder(folder: Path) -> None:
    """Raises InputError where there is no such folder of checkpoints."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there are no checkpoints; has the run been trained?")


def steps_in(folder: Path) -> list[int]:
    """The steps of all whole checkpoints, the newest first. Orbax gives a folder its number when it is whole."""
    return sorted((int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True)


def read_record(folder: Path, step: int) -> dict[str, Any]:
    """What lies beside the arrays, unverified; raises whatever a damaged file makes its reader raise."""
    return dict(json.loads((folder / str(step) / "run" / "metadata").read_text("utf-8")))


def read_history(folder: Path, steps: Sequence[int]) -> list[Evaluation]:
    """The history that the first of these checkpoints holds whose record can be read."""
    for step in steps:
        try:
            return [Evaluation(*evaluation) for evaluation in read_record(folder, step)["history"]]
        except Exception:  # a damaged file; restoring this step will say so
            continue
    return []
