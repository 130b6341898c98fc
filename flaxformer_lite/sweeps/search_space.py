"""Search space that a sweep file describes, validated before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaxformer_lite.config import python_files
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.sweeps.distributions import Choice, Distribution, Integers, LogUniform, Uniform
from flaxformer_lite.sweeps.trials import Trial, make_trial

_EXAMPLE = "configs/sweeps/space.py"


@dataclass(frozen=True)
class SearchSpace:
    """A search space over a base config.

    Attributes:
      values: a distribution or a constant, by dotted config keys.
      base: the ConfigDict that trials change.
      fixed: keys that no trial may change, because the caller set them for all trials.
    """

    values: Mapping[str, Distribution | Any]
    base: Any
    fixed: frozenset[str]

    @property
    def distributions(self) -> dict[str, Distribution]:
        """The keys that are searched."""
        return {key: found for key, found in self.values.items() if isinstance(found, Distribution)}

    @property
    def first_config(self) -> Config:
        """The config with the lowest, or first, value of every key."""
        return self.trial({}).config

    @property
    def seed(self) -> int:
        """Seed of the search: that of the base config."""
        return self.base.seed

    def trial(self, sampled: Mapping[str, Any]) -> Trial:
        """The trial of sampled values; keys without one take their lowest, or first, value.

        Raises:
          InputError: the values are not valid together.
        """
        values = {key: sampled.get(key, _extremes(found)[0]) for key, found in self.values.items()}
        return make_trial(values, self.base, self.fixed)


def load_search_space(file: str, base: Any, fixed: Iterable[str]) -> SearchSpace:
    """Runs a Python file with a function ``space()`` and validates its search space over ``base``.

    Both bounds of each range and each choice are tried in a config whose other values are the lowest or first.

    Raises:
      InputError: the file raises, its search space is invalid, or a config of it is.
    """
    path = Path(file)
    describe = python_files.function(path, "space", _EXAMPLE)
    with python_files.errors_located(path):
        values = describe()
    subject = f"{file}, space()"
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise InputError(
            subject,
            "must return a dictionary of dotted config keys, such as {'optim.learning_rate': LogUniform(1e-4, 1e-2)}, "
            f"got {values!r}",
        )
    space = SearchSpace(values, base, frozenset(fixed))
    require(bool(space.distributions), subject, "has no distribution to search", f"see {_EXAMPLE} for an example")
    require(
        "eval.best_metric" not in space.distributions,
        subject,
        "must not search eval.best_metric, the metric that trials are compared by",
    )
    for key, found in space.distributions.items():
        known = isinstance(found, Uniform | LogUniform | Integers | Choice)
        require(known, f"{subject}, {key}", f"must be LogUniform, Uniform, Integers or Choice, got {found!r}")
    for key, found in values.items():
        for value in _extremes(found):
            try:
                space.trial({key: value})
            except InputError as error:
                raise InputError(f"{subject}, {key}={value!r}", str(error)) from error
    return space


def _extremes(found: Any) -> tuple[Any, ...]:
    """The bounds of a range, or all choices: the values at which a config may be invalid."""
    match found:
        case Choice(values):
            return values
        case Uniform(low, high) | LogUniform(low, high):
            return (float(low), float(high))
        case Integers(low, high):
            return (low, high)
    return (found,)
