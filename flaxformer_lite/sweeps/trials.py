"""From what a sweep file yields to points: configs that are checked, told apart, and named."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flaxformer_lite.checkpoints.work_dir import what
from flaxformer_lite.config import parsing, python_files
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError, require

_MOST = 10_000  # points; a generator without an end yields more
_LONGEST = 80  # characters of a name, before the hash


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
      overrides: what it changes, by dotted keys.
      config: all of it.
      label: the overrides, in few words, as a file may be called.
      name: of its folder: the label and a hash of what the run is.
    """

    overrides: Mapping[str, Any]
    config: Config
    label: str
    name: str


def read_points(file: str, base: Any, given: Collection[str]) -> list[Point]:
    """Runs a sweep file and checks every point of it.

    Args:
      file: what ``--sweep`` said.
      base: the ConfigDict that the points change.
      given: the keys that the command line set for all points.

    Raises:
      InputError: the file raises, yields nothing, what is not a point, or one point twice; or a config cannot work.
    """
    path = Path(file)
    sweep = python_files.function(path, "sweep", "configs/sweeps/lr.py")
    with python_files.errors_located(path):
        found = sweep()
        require(isinstance(found, Iterable), f"sweep() must yield dictionaries, got {found!r}")
        yielded = list(itertools.islice(found, _MOST + 1))
    require(bool(yielded), f"--sweep={file}: sweep() yields nothing; configs/sweeps/lr.py shows what it should")
    require(len(yielded) <= _MOST, f"--sweep={file}: sweep() yields more than {_MOST:,} points; does it end?")
    points = []
    for i, overrides in enumerate(yielded):
        try:
            points.append(make_point(overrides, base, given))
        except InputError as error:
            raise InputError(f"--sweep={file}, point {i + 1} of {len(yielded)}, {overrides!r}: {error}") from error
    _check_distinct(file, points)
    return points


def make_point(overrides: Any, base: Any, given: Collection[str]) -> Point:
    """One point of what it changes in a ConfigDict; arguments and errors are those of ``read_points``."""
    if not isinstance(overrides, Mapping) or not all(isinstance(key, str) for key in overrides):
        raise InputError("a point must be a dictionary of dotted keys, such as {'optim.learning_rate': 1e-3}")
    overrides = {key: value.item() if isinstance(value, np.generic) else value for key, value in overrides.items()}
    known = parsing.known_keys()
    for key in overrides:
        if inside := [name for name in known if name.startswith(f"{key}.")]:
            raise InputError(f"{key} is a group of settings; change one of them, such as {inside[0]}")
        if key not in known:
            raise parsing.unknown_key(key)
        require(key not in given, f"the command line sets config.{key} for all points; leave one of the two out")
    values = copy.deepcopy(base)
    with values.ignore_type():  # from_dict is stricter, and says more
        values.update_from_flattened_dict(overrides)
    config = overrides.resolve(values)
    label = _label(overrides, known)
    return Point(overrides, config, label, f"{label}__{_hash(config)}")


def _check_distinct(file: str, points: Sequence[Point]) -> None:
    seen: dict[Config, int] = {}
    for i, point in enumerate(points):
        if (first := seen.setdefault(point.config, i)) != i:
            raise InputError(
                f"--sweep={file}: points {first + 1} and {i + 1} are the same run: {dict(points[first].overrides)!r} "
                f"and {dict(point.overrides)!r} give one config; leave one out"
            )


def _hash(config: Config) -> str:
    """Eight letters that differ where runs do."""
    text = json.dumps(what(config), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _label(overrides: Mapping[str, Any], known: Sequence[str]) -> str:
    """Such as ``learning_rate=0.001__seed=0``: safe as the name of a file, and not too long for one."""
    said = "__".join(f"{parsing.short_name(key, known)}={_say(value)}" for key, value in overrides.items())
    return re.sub(r"[^\w.=+-]+", "-", said, flags=re.ASCII)[:_LONGEST] or "unchanged"


def _say(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "+".join(map(_say, value)) if isinstance(value, tuple | list) else str(value)
