"""Loads runs from their config.json and metrics.jsonl alone, without jax, whatever version wrote them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxformer_lite.compare.comparison import Curve, RunRecord, best_of_curve, lower_is_better
from flaxformer_lite.config import migrations
from flaxformer_lite.errors import InputError
from flaxformer_lite.monitoring import metric_writer

_MAX_STEP = 2**31 - 1  # the HTML page stores steps as 32-bit integers


class LoadedRuns(NamedTuple):
    """Loaded runs in the order of their paths, and a message about each directory that was skipped."""

    runs: tuple[RunRecord, ...]
    skipped: tuple[str, ...]


def load_runs(paths: Sequence[Path]) -> LoadedRuns:
    """Loads the runs in these directories: work directories, or directories that contain some at any depth.

    A run that cannot be read is skipped; directories inside a work directory are not searched, except the ``seed_0``, …
    that earlier versions wrote for several seeds in one program.

    Raises:
      InputError: a directory does not exist, or no run can be loaded.
    """
    runs: dict[Path, RunRecord] = {}
    skipped, visited = [], set()
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path}", "there is no such directory", "name work directories, or a directory of some")
        before = len(runs) + len(skipped)
        for workdir in _find_workdirs(path, visited):
            try:
                runs[workdir] = _load(workdir)
            except FileNotFoundError:
                skipped.append(f"{workdir}: has no config.json")
            # Whatever is wrong with the files of one run must not end the comparison of the others.
            except (InputError, OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
                skipped.append(f"{workdir}: cannot be read ({error})")
        if len(runs) + len(skipped) == before:
            skipped.append(f"{path}: contains no readable run that was not named before")
    if not runs:
        raise InputError("there is no run to compare", "; ".join(skipped or ["no directory is named"]))
    return LoadedRuns(_named(runs), tuple(skipped))


def _find_workdirs(path: Path, visited: set[Path]) -> Iterator[Path]:
    """The work directories at or below a path, each once even if several links lead to it."""
    if (resolved := path.resolve()) in visited:
        return
    visited.add(resolved)
    try:
        children = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    except PermissionError:
        return
    is_run = (path / "config.json").exists() or (path / "metrics.jsonl").exists()
    seeds = [child for child in children if child.name.startswith("seed_") and (child / "config.json").exists()]
    if is_run and not seeds:
        yield path
    for child in seeds if is_run else children:
        yield from _find_workdirs(child, visited)


def _load(workdir: Path) -> RunRecord:
    values = json.loads((workdir / "config.json").read_text("utf-8"))
    if not isinstance(values, dict) or not values:
        raise ValueError("config.json contains no settings")
    json.dumps([str(workdir), values], ensure_ascii=False).encode()  # raises for text that cannot be printed
    with suppress(InputError):  # a config that cannot be migrated is compared by the keys that it has
        values = migrations.migrate(values)
    curves = _curves(metric_writer.read_metrics(workdir / "metrics.jsonl"))
    if not curves:
        raise ValueError("no metrics are recorded yet")
    settings = dict(_flatten(values))
    done = (workdir / "finished.json").exists() or _is_done(settings, curves)
    return RunRecord(str(workdir), workdir, settings, curves, done)


def _curves(lines: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    values: dict[str, dict[int, float]] = {}
    for line in lines:
        step = line["step"]
        if not isinstance(step, int) or not 0 <= step <= _MAX_STEP:
            raise ValueError(f"metrics.jsonl contains the step {step!r}")
        for name, value in line.items():
            if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
                values.setdefault(name, {})[step] = math.nan if value is None else float(value)
    values.pop("step", None)
    return {name: _curve(by_step) for name, by_step in values.items()}


def _curve(values: Mapping[int, float]) -> Curve:
    steps = np.array(sorted(values), np.int64)
    return Curve(steps, np.array([values[step] for step in steps.tolist()]))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _hashable(value)


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _hashable(item)) for key, item in value.items())
    if isinstance(value, int | float):
        float(value)  # raises OverflowError for integers that cannot be drawn
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value


def _is_done(settings: Mapping[str, Any], curves: Mapping[str, Curve]) -> bool:
    """Whether the last evaluation ends training, for runs that are older than finished.json."""
    metric = f"eval/{settings.get('eval.best_metric', 'loss')}"
    if metric not in curves:
        return False
    steps = curves[metric].steps
    since_best = int((steps > best_of_curve(curves[metric], lower_is_better(metric)).step).sum())
    last_step, patience = settings.get("train.steps", math.inf), settings.get("train.patience", 0)
    return int(steps[-1]) >= last_step or 0 < patience <= since_best


def _named(runs: Mapping[Path, RunRecord]) -> tuple[RunRecord, ...]:
    """Names each run by its path below the directory that contains all."""
    paths = [Path(os.path.abspath(path)) for path in runs]
    common = os.path.commonpath([path.parent for path in paths])
    return tuple(
        dataclasses.replace(run, name=path.relative_to(common).as_posix())
        for path, run in zip(paths, runs.values(), strict=True)
    )
