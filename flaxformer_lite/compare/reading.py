"""From work folders to runs, by config.json and metrics.jsonl alone: quick, and of any version of this code."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxformer_lite.compare.runs import Curve, Run, best_of, lower_is_better
from flaxformer_lite.errors import InputError
from flaxformer_lite.monitoring import metric_writer


class Found(NamedTuple):
    """Runs in the order in which they were found, and a line about each folder that is none that can be compared."""

    runs: tuple[Run, ...]
    left_out: tuple[str, ...]


def read_runs(folders: Sequence[Path]) -> Found:
    """Reads the runs that lie in these folders: each is a work folder, or holds such at any depth, as a sweep's does.

    A run is not searched for others, except one of several seeds at once, which stands for its folders ``seed_0``, …

    Raises:
      InputError: a folder does not exist, or no run is left.
    """
    runs: dict[Path, Run] = {}
    left_out, visited = [], set()
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder; name work folders of runs, or folders that hold such")
        before = len(runs) + len(left_out)
        for found in _work_folders(folder, visited):
            if isinstance(read := _read(found), str):
                left_out.append(f"{found}: {read}")
            else:
                runs[found] = read
        if len(runs) + len(left_out) == before:
            left_out.append(f"{folder}: holds no run that can be read and was not named before")
    if not runs:
        raise InputError("there is no run to compare; " + "; ".join(left_out or ["no folder is named"]))
    return Found(_named(runs), tuple(left_out))


def _work_folders(folder: Path, visited: set[Path]) -> Iterator[Path]:
    """The work folders at or under a folder, each once however many links lead to it."""
    if (place := folder.resolve()) in visited:
        return
    visited.add(place)
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except PermissionError:
        return
    is_run = (folder / "config.json").exists() or (folder / "metrics.jsonl").exists()
    seeds = [path for path in inside if path.name.startswith("seed_") and (path / "config.json").exists()]
    if is_run and not seeds:
        yield folder
    for path in seeds if is_run else inside:
        yield from _work_folders(path, visited)


def _read(folder: Path) -> Run | str:
    """The run of a work folder, named by it, or why there is none to compare."""
    try:
        values = json.loads((folder / "config.json").read_text("utf-8"))
        lines = metric_writer.read_metrics(folder / "metrics.jsonl")
    except FileNotFoundError:
        return "has no config.json; restore it from a copy"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    if not isinstance(values, dict) or not values:
        return "its config.json holds no settings; restore it from a copy"
    if not (curves := _curves(lines)):
        return "has recorded nothing yet"
    settings = dict(_flat(values))
    done = (folder / "finished.json").exists() or _done(settings, curves)
    return Run(str(folder), folder, settings, curves, done)


def _curves(lines: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    points: dict[str, dict[int, float]] = {}
    for line in lines:
        for name, value in line.items():
            if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
                points.setdefault(name, {})[line["step"]] = math.nan if value is None else float(value)
    points.pop("step", None)
    return {name: _curve(of_one) for name, of_one in points.items()}


def _curve(points: Mapping[int, float]) -> Curve:
    steps = np.array(sorted(points), np.int64)
    return Curve(steps, np.array([points[step] for step in steps.tolist()]))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _hashable(value)


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _hashable(item)) for key, item in value.items())
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value


def _done(settings: Mapping[str, Any], curves: Mapping[str, Curve]) -> bool:
    """Whether the last evaluation is the one after which training ends: of a run that is older than finished.json."""
    metric = f"eval/{settings.get('eval.best_metric', 'loss')}"
    if metric not in curves:
        return False
    steps = curves[metric].steps
    since = int((steps > best_of(curves[metric], lower_is_better(metric)).step).sum())
    return int(steps[-1]) >= settings.get("train.steps", math.inf) or 0 < settings.get("train.patience", 0) <= since


def _named(runs: Mapping[Path, Run]) -> tuple[Run, ...]:
    """Names each run by its path within the folder that they all lie in."""
    places = [Path(os.path.abspath(folder)) for folder in runs]
    common = os.path.commonpath([place.parent for place in places])
    return tuple(
        dataclasses.replace(run, name=place.relative_to(common).as_posix())
        for place, run in zip(places, runs.values(), strict=True)
    )
