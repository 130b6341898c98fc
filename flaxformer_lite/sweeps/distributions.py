"""Grids, zipped values, and the distributions that random search and optuna sample from."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from flaxformer_lite.errors import require


@runtime_checkable
class Distribution(Protocol):
    """A distribution over the values of one config key."""

    def sample(self, rng: random.Random) -> Any: ...


@dataclass(frozen=True)
class _FloatRange:
    low: float
    high: float

    def __post_init__(self):
        _check_bounds(self, -math.inf)

    def round(self, value: float) -> float:
        """Rounds to four significant digits, so that trial names show the exact value, within the bounds."""
        return min(max(float(f"{value:.4g}"), self.low), self.high)


@dataclass(frozen=True)
class Uniform(_FloatRange):
    """Uniform distribution over ``[low, high]``; samples are rounded to four significant digits."""

    def sample(self, rng: random.Random) -> float:
        return self.round(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class LogUniform(_FloatRange):
    """Log-uniform distribution over ``[low, high]``, ``low > 0``; samples are rounded to four significant digits."""

    def __post_init__(self):
        _check_bounds(self, 0.0)

    def sample(self, rng: random.Random) -> float:
        return self.round(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))


@dataclass(frozen=True)
class Integers:
    """Uniform distribution over the integers from ``low`` to ``high``, both included."""

    low: int
    high: int

    def __post_init__(self):
        _check_bounds(self, -math.inf)

    def sample(self, rng: random.Random) -> int:
        return rng.randint(self.low, self.high)


@dataclass(frozen=True, init=False)
class Choice:
    """Uniform distribution over a list of values."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any):
        require(bool(values), "Choice()", "has no values", "list them, such as Choice(64, 128)")
        object.__setattr__(self, "values", values)

    def sample(self, rng: random.Random) -> Any:
        return rng.choice(self.values)


def grid(space: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yields the Cartesian product of the values; the last key changes fastest.

    >>> [*grid({"seed": [0, 1], "train.batch_size": [32, 64]})][1]
    {'seed': 0, 'train.batch_size': 64}
    """
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def zipped(space: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yields the first values of all keys, then the second values, and so on; all keys have equally many.

    >>> [*zipped({"train.steps": [500, 900], "train.batch_size": [128, 256]})][1]
    {'train.steps': 900, 'train.batch_size': 256}
    """
    lengths = {key: len(values) for key, values in space.items()}
    require(len(set(lengths.values())) <= 1, "zipped()", f"all keys must have equally many values, got {lengths}")
    for values in zip(*space.values(), strict=True):
        yield dict(zip(space, values, strict=True))


def random_draws(space: Mapping[str, Distribution | Any], count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yields ``count`` random samples of a space.

    A value is a function of (seed, sample number, key): a larger ``count`` or another key does not change it. The space
    has for each key a distribution or a constant.
    """
    for i in range(count):
        yield {
            key: found.sample(random.Random(f"{seed}/{i}/{key}")) if isinstance(found, Distribution) else found
            for key, found in space.items()
        }


def _check_bounds(bounds: Any, above: float) -> None:
    positive = " above 0" * (above == 0)
    require(
        above < bounds.low < bounds.high < math.inf,
        f"{type(bounds).__name__}({bounds.low}, {bounds.high})",
        f"must be two finite numbers{positive}, the lower one first",
    )
