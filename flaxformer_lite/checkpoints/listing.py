"""The checkpoints in a directory: steps, metrics, sizes, ages; read without jax, so immediately."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flaxformer_lite.errors import InputError, require
from flaxformer_lite.metrics.compute import lower_is_better

AVERAGE = "average"  # the subdirectory of the checkpoints' directory with the average of some checkpoints
_PREFIX = "eval/"


class Evaluation(NamedTuple):
    """The value of ``eval.best_metric`` at one evaluation."""

    step: int
    value: float


class CheckpointInfo(NamedTuple):
    """One checkpoint in a listing.

    Attributes:
      name: its step, ``average``, or its name where it was renamed because it is damaged.
      path: its directory.
      metrics: the metrics of its evaluation by name (``wer``); empty where it was not evaluated.
      size: bytes on disk.
      saved: time of writing, in seconds since the epoch.
      notes: ``best``, ``latest``, ``moving average``, ``damaged``, ``of steps 10, 20``, ``not restored``.
    """

    name: str
    path: Path
    metrics: dict[str, float]
    size: int
    saved: float
    notes: tuple[str, ...]


class Evaluations:
    """The evaluations of a run, by step.

    Args:
      folder: of its checkpoints.
      lines: of its metrics.jsonl.
      main: the metric by which checkpoints are kept. Its values come from the checkpoints, as they do in decoding.
    """

    def __init__(self, folder: Path, lines: Iterable[Mapping[str, Any]], main: str):
        check_folder(folder)
        self.folder, self.main, self.steps = folder, main, steps_in(folder)
        require(bool(self.steps), str(folder), "there are no checkpoints yet")
        self._history = {metric: dict(values) for metric, values in _by_metric(lines).items()}
        self._history[main] = {e.step: e.value for e in read_history(folder, self.steps)}

    def of(self, step: int) -> dict[str, float]:
        """The metrics of one step, by name."""
        return {metric: values[step] for metric, values in self._history.items() if step in values}

    def best(self, metric: str) -> int:
        """The step of the best existing checkpoint; the latest where none was evaluated by the main metric.

        Raises:
          InputError: no checkpoint was evaluated by this metric, which is not the main one.
        """
        history = [Evaluation(step, value) for step, value in self._history.get(metric, {}).items()]
        if metric != self.main and not {evaluation.step for evaluation in history} & {*self.steps}:
            known = sorted({name for step in self.steps for name in self.of(step)} | {self.main})
            reason = f"no checkpoint in {self.folder} was evaluated by it; its metrics are {', '.join(known)}"
            raise InputError(f"metric={metric}", reason)
        return best_first(self.steps, history, metric)[0]


def list_checkpoints(evaluations: Evaluations) -> list[CheckpointInfo]:
    """All checkpoints in a directory, the oldest first; after them their average and damaged ones.

    A checkpoint that a running training removes meanwhile is left out.
    """
    folder, best = evaluations.folder, evaluations.best(evaluations.main)
    infos = []
    for step in reversed(evaluations.steps):
        metrics = evaluations.of(step)
        notes = ["best"] * (step == best and bool(metrics)) + ["latest"] * (step == evaluations.steps[0])
        infos += _info(str(step), folder / str(step), metrics, [*notes, *_notes(folder, step)])
    if (folder / AVERAGE).is_dir():
        for number in steps_in(folder / AVERAGE)[:1]:
            infos += _info(AVERAGE, folder / AVERAGE / str(number), {}, _notes(folder / AVERAGE, number))
    for path in sorted(folder.glob("damaged.*")):
        infos += _info(path.name, path, {}, ["not restored"])
    return infos


def ranked(history: Sequence[Evaluation], metric: str) -> list[Evaluation]:
    """The evaluations from best to worst, the earliest of equals first; NaN is worst."""
    sign = 1 if lower_is_better(metric) else -1
    return sorted(history, key=lambda e: (math.isnan(e.value), sign * e.value, e.step))


def best_evaluation(history: Sequence[Evaluation], metric: str) -> Evaluation | None:
    """The best evaluation, the earliest of equals."""
    return next(iter(ranked(history, metric)), None)


def best_first(steps: Sequence[int], history: Sequence[Evaluation], metric: str) -> list[int]:
    """These steps from best to worst, followed by those that were not evaluated in their own order."""
    evaluated = [evaluation.step for evaluation in ranked(history, metric) if evaluation.step in steps]
    return evaluated + [step for step in steps if step not in evaluated]


def check_folder(folder: Path) -> None:
    """Raises ``InputError`` where there is no such directory of checkpoints."""
    require(folder.is_dir(), str(folder), "there are no checkpoints; has the run been trained?")


def steps_in(folder: Path) -> list[int]:
    """The steps of all complete checkpoints, the newest first; Orbax renames a directory to its step when complete."""
    return sorted((int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True)


def read_record(folder: Path, step: int) -> dict[str, Any]:
    """The unverified record beside the arrays; any exception means that it is damaged."""
    return dict(json.loads((folder / str(step) / "run" / "metadata").read_text("utf-8")))


def read_history(folder: Path, steps: Sequence[int]) -> list[Evaluation]:
    """The evaluation history in the first of these checkpoints whose record can be read."""
    for step in steps:
        try:
            return [Evaluation(*evaluation) for evaluation in read_record(folder, step)["history"]]
        except Exception:  # a damaged file; restoring this step reports it
            continue
    return []


def _by_metric(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    values: dict[str, dict[int, float]] = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith(_PREFIX):
                values.setdefault(name.removeprefix(_PREFIX), {})[line["step"]] = math.nan if value is None else value
    return values


def _notes(folder: Path, step: int) -> list[str]:
    try:
        record = read_record(folder, step)
        steps: Sequence[int] = record.get("steps", ())
        of_steps = [f"of steps {', '.join(map(str, steps))}"] if steps else []
        return of_steps + ["moving average"] * ("ema" in record["checksums"])
    except Exception:  # any exception that a damaged file causes
        return ["damaged"]


def _info(name: str, path: Path, metrics: dict[str, float], notes: Sequence[str]) -> list[CheckpointInfo]:
    try:
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return [CheckpointInfo(name, path, metrics, size, path.stat().st_mtime, tuple(notes))]
    except FileNotFoundError:
        return []
