"""What a search may try: the space that a sweep file describes, checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaxformer_lite.config import python_files
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.sweeps.distributions import Choice, Distribution, Integers, LogUniform, Uniform
from flaxformer_lite.sweeps.trials import Point, make_point

_EXAMPLE = "configs/sweeps/space.py"


@dataclass(frozen=True)
class SearchSpace:
    """What a search may try.

    Attributes:
      values: by dotted keys, what a value is drawn from, or what stays the same.
      base: the ConfigDict that points change.
      given: the keys that the command line set for all points.
    """

    values: Mapping[str, Distribution | Any]
    base: Any
    given: frozenset[str]

    @property
    def searched(self) -> dict[str, Distribution]:
        """The keys with more than one value."""
        return {key: found for key, found in self.values.items() if isinstance(found, Distribution)}

    @property
    def corner(self) -> Config:
        """A config of the space: the lowest, or first, of everything."""
        return self.point({}).config

    @property
    def seed(self) -> int:
        """From which draws are made: that of the config which points change."""
        return self.base.seed

    def point(self, drawn: Mapping[str, Any]) -> Point:
        """The point of some values, the others the lowest or first.

        Raises:
          InputError: these values do not go together.
        """
        values = {key: drawn.get(key, _ends(found)[0]) for key, found in self.values.items()}
        return make_point(values, self.base, self.given)


def read_space(file: str, base: Any, given: Iterable[str]) -> SearchSpace:
    """Runs a sweep file and checks the space that it describes.

    Each end of each range, and each choice, is tried in a config whose other values are the lowest or first.

    Args:
      file: what ``--sweep`` said.
      base: the ConfigDict that points change.
      given: the keys that the command line set for all points.

    Raises:
      InputError: the file raises, or what it describes is no space, or a config of it cannot work.
    """
    path = Path(file)
    describe = python_files.function(path, "space", _EXAMPLE)
    with python_files.errors_located(path):
        values = describe()
    whose = f"--sweep={file}: space()"
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise InputError(
            f"{whose} must return a dictionary of dotted keys, such as {{'optim.learning_rate': LogUniform(1e-4, "
            f"1e-2)}}, got {values!r}"
        )
    space = SearchSpace(values, base, frozenset(given))
    require(bool(space.searched), f"{whose} leaves nothing to search; {_EXAMPLE} shows what it should return")
    require(
        "eval.best_metric" not in space.searched, f"{whose}: eval.best_metric is what is searched for: name one for all"
    )
    for key, found in space.searched.items():
        require(
            isinstance(found, Uniform | LogUniform | Integers | Choice),
            f"{whose}: {key} is drawn from {found!r}; a search knows LogUniform, Uniform, Integers and Choice",
        )
    for key, found in values.items():
        for end in _ends(found):
            try:
                space.point({key: end})
            except InputError as error:
                raise InputError(f"{whose}, {key}={end!r}: {error}") from error
    return space


def _ends(found: Any) -> tuple[Any, ...]:
    """The values at which what can go wrong does."""
    match found:
        case Choice(values):
            return values
        case Uniform(low, high) | LogUniform(low, high):
            return (float(low), float(high))
        case Integers(low, high):
            return (low, high)
    return (found,)
