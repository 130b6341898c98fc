"""What checkpoints a run has: their metrics, sizes and ages; read without jax, so at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flaxformer_lite.checkpoints.records import (
    AVERAGE,
    Evaluation,
    best_first,
    check_folder,
    read_history,
    read_record,
    steps_in,
)
from flaxformer_lite.errors import InputError

_PREFIX = "eval/"


class Listed(NamedTuple):
    """A checkpoint.

    Attributes:
      name: its step, ``average``, or the name under which one was set aside.
      path: its folder.
      metrics: what its evaluation found, by name (``wer``); nothing where it was not evaluated.
      size: bytes on the disk.
      saved: when it was written, in seconds since the epoch.
      notes: what is particular about it: ``best``, ``latest``, ``moving average``, ``damaged``, ``of steps 10, 20``.
    """

    name: str
    path: Path
    metrics: dict[str, float]
    size: int
    saved: float
    notes: tuple[str, ...]


class Evaluations:
    """What the evaluations of a run found.

    Args:
      folder: its checkpoints.
      lines: of its metrics.jsonl.
      main: the metric by which checkpoints are kept. Its values are those that the checkpoints hold, from which
        decoding knows the best one too.
    """

    def __init__(self, folder: Path, lines: Iterable[Mapping[str, Any]], main: str):
        check_folder(folder)
        self.folder, self.main, self.steps = folder, main, steps_in(folder)
        if not self.steps:
            raise InputError(f"{folder}: there are no checkpoints yet")
        self._history = {metric: dict(found) for metric, found in _by_metric(lines).items()}
        self._history[main] = {e.step: e.value for e in read_history(folder, self.steps)}

    def of(self, step: int) -> dict[str, float]:
        """The metrics of one step, by name."""
        return {metric: values[step] for metric, values in self._history.items() if step in values}

    def best(self, metric: str) -> int:
        """The step of the best checkpoint there is; where none was evaluated by the main metric, the latest.

        Raises:
          InputError: no checkpoint was evaluated by another metric.
        """
        history = [Evaluation(step, value) for step, value in self._history.get(metric, {}).items()]
        if metric != self.main and not {evaluation.step for evaluation in history} & {*self.steps}:
            known = sorted({name for step in self.steps for name in self.of(step)} | {self.main})
            raise InputError(
                f"--metric={metric}: no checkpoint in {self.folder} was evaluated by it; there are {', '.join(known)}"
            )
        return best_first(self.steps, history, metric)[0]


def list_checkpoints(found: Evaluations) -> list[Listed]:
    """All that lie in a folder, the oldest first; after them their average, and what was set aside.

    One that a run at work removes meanwhile is left out.
    """
    folder, best = found.folder, found.best(found.main)
    rows = []
    for step in reversed(found.steps):
        notes = ["best"] * (step == best and bool(found.of(step))) + ["latest"] * (step == found.steps[0])
        rows += _listed(str(step), folder / str(step), found.of(step), [*notes, *_notes(folder, step)])
    if (folder / AVERAGE).is_dir():
        for number in steps_in(folder / AVERAGE)[:1]:
            rows += _listed(AVERAGE, folder / AVERAGE / str(number), {}, _notes(folder / AVERAGE, number))
    for path in sorted([*folder.glob("ahead.*"), *folder.glob("damaged.*")]):
        rows += _listed(path.name, path, {}, ["set aside"])
    return rows


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
    except Exception:  # whatever a damaged file makes its reader raise
        return ["damaged"]


def _listed(name: str, path: Path, metrics: dict[str, float], notes: Sequence[str]) -> list[Listed]:
    try:
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return [Listed(name, path, metrics, size, path.stat().st_mtime, tuple(notes))]
    except FileNotFoundError:
        return []
