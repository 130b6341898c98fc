"""Trials of a sweep: overrides of a base config, validated and named."""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import json
import operator
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flaxformer_lite.checkpoints.work_dir import fixed_values
from flaxformer_lite.config import config_keys, loading, parsing, python_files
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError, require

EXAMPLE = "configs/sweeps/lr.py"
_MAX_TRIALS = 10_000  # a generator without an end yields more
_MAX_LABEL = 80  # characters of a directory name before the hash


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
      overrides: values by dotted config keys; ``config`` has them.
      label: the overrides in short form, as a valid file name.
      name: of its directory: the label and a hash.
    """

    overrides: Mapping[str, Any]
    config: Config
    label: str
    name: str


def load_trials(file: str, base: Any, fixed: Collection[str]) -> list[Trial]:
    """Runs a Python file with a function ``sweep()``, and validates all of its trials.

    They change the ConfigDict ``base``, but none of the keys ``fixed``, which the caller set for all trials.

    Raises:
      InputError: the file raises, yields nothing, an invalid trial or one trial twice.
    """
    path = Path(file)
    sweep = python_files.function(path, "sweep", EXAMPLE)
    with python_files.errors_located(path):
        found = sweep()
        require(isinstance(found, Iterable), "sweep()", f"must yield dictionaries, got {found!r}")
        yielded = list(itertools.islice(found, _MAX_TRIALS + 1))
    require(bool(yielded), file, "sweep() yields nothing", f"see {EXAMPLE} for an example")
    require(len(yielded) <= _MAX_TRIALS, file, f"sweep() yields more than {_MAX_TRIALS:,} trials", "make it end")
    trials = []
    for i, overrides in enumerate(yielded, 1):
        try:
            trials.append(make_trial(overrides, base, fixed))
        except InputError as error:
            raise InputError(f"{file}, trial {i} of {len(yielded)}, {overrides!r}", str(error)) from error
    _check_distinct(file, trials)
    return trials


def make_trial(overrides: Any, base: Any, fixed: Collection[str]) -> Trial:
    """Applies the overrides of one trial to ``base``; arguments and errors are those of ``load_trials``."""
    if not isinstance(overrides, Mapping) or not all(isinstance(key, str) for key in overrides):
        raise InputError("trial", "must be a dictionary of dotted config keys, such as {'optim.learning_rate': 1e-3}")
    overrides = {key: value.item() if isinstance(value, np.generic) else value for key, value in overrides.items()}
    known = config_keys.known_keys()
    for key in overrides:
        if inside := [name for name in known if name.startswith(f"{key}.")]:
            raise InputError(f"config.{key}", "is a group", f"change one of its keys, such as config.{inside[0]}")
        if key not in known:
            raise config_keys.unknown_key(key)
        require(key not in fixed, f"config.{key}", "is already overridden for all trials", "remove one of the two")
    values = copy.deepcopy(base)
    with values.ignore_type():  # from_dict is stricter, and its messages are better
        values.update_from_flattened_dict(overrides)
    config = loading.resolve(values)
    label = _label(overrides, known)
    return Trial(overrides, config, label, f"{label}__{_hash(config, overrides)}")


def _check_distinct(file: str, trials: Sequence[Trial]) -> None:
    seen: dict[Config, int] = {}
    for i, trial in enumerate(trials):
        if (first := seen.setdefault(trial.config, i)) != i:
            raise InputError(
                file,
                f"trials {first + 1} and {i + 1} are the same run: {dict(trials[first].overrides)!r} and "
                f"{dict(trial.overrides)!r} give one config",
                "remove one",
            )


def _hash(config: Config, overrides: Mapping[str, Any]) -> str:
    """A hash of what a run computes, and of its overrides, which may change only how it is computed (a mesh)."""
    values = {key: functools.reduce(operator.getitem, key.split("."), parsing.to_dict(config)) for key in overrides}
    text = json.dumps([fixed_values(config), values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _label(overrides: Mapping[str, Any], known: Sequence[str]) -> str:
    """``learning_rate=0.001__seed=0``: ASCII, without path separators, cut to a valid length of a file name."""
    text = "__".join(f"{config_keys.short_name(key, known)}={_format(value)}" for key, value in overrides.items())
    return re.sub(r"[^\w.=+-]+", "-", text, flags=re.ASCII)[:_MAX_LABEL] or "unchanged"


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "+".join(map(_format, value)) if isinstance(value, tuple | list) else str(value)
