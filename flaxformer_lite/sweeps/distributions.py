"""What sweep files say points with: grids, values side by side, and random draws from a space."""

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
    """What a value is drawn from."""

    def draw(self, source: random.Random) -> Any:
        """One value."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Real numbers between two, all equally likely; four digits of them."""

    low: float
    high: float

    def __post_init__(self):
        _check_ends(self, -math.inf)

    def draw(self, source: random.Random) -> float:
        """One of them."""
        return self.nearby(source.uniform(self.low, self.high))

    def nearby(self, value: float) -> float:
        """The number of four digits that is next to one of them."""
        return _four_digits(value, self.low, self.high)


@dataclass(frozen=True)
class LogUniform:
    """Real numbers between two above 0, all orders of magnitude equally likely; four digits of them."""

    low: float
    high: float

    def __post_init__(self):
        _check_ends(self, 0.0)

    def draw(self, source: random.Random) -> float:
        """One of them."""
        return self.nearby(math.exp(source.uniform(math.log(self.low), math.log(self.high))))

    def nearby(self, value: float) -> float:
        """The number of four digits that is next to one of them."""
        return _four_digits(value, self.low, self.high)


@dataclass(frozen=True)
class Integers:
    """Whole numbers from one to another, both included, all equally likely."""

    low: int
    high: int

    def __post_init__(self):
        _check_ends(self, -math.inf)

    def draw(self, source: random.Random) -> int:
        """One of them."""
        return source.randint(self.low, self.high)


@dataclass(frozen=True, init=False)
class Choice:
    """One of several values, all equally likely."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any):
        require(bool(values), "Choice(): name the values to choose from, such as Choice(64, 128)")
        object.__setattr__(self, "values", values)

    def draw(self, source: random.Random) -> Any:
        """One of them."""
        return source.choice(self.values)


def grid(space: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the values; those of the last key change fastest.

    >>> [*grid({"seed": [0, 1], "model.encoder.width": [32, 64]})][1]
    {'seed': 0, 'model.encoder.width': 64}
    """
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def zipped(space: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """The first values of all keys, the second ones, and so on; every key has as many.

    >>> [*zipped({"model.encoder.width": [32, 64], "model.encoder.mlp_dim": [128, 256]})][1]
    {'model.encoder.width': 64, 'model.encoder.mlp_dim': 256}
    """
    lengths = {key: len(values) for key, values in space.items()}
    require(
        len(set(lengths.values())) <= 1, f"zipped(): every key must have as many values as the others, got {lengths}"
    )
    for values in zip(*space.values(), strict=True):
        yield dict(zip(space, values, strict=True))


def random_draws(space: Mapping[str, Distribution | Any], count: int, seed: int) -> Iterator[dict[str, Any]]:
    """So many points drawn from a space, a function of the seed.

    A value is a function of (seed, number of the point, key) alone: more points, or another key, leave it as it is.

    Args:
      space: a distribution, or what stays the same, for each key.
      count: of points.
      seed: another one gives other points.
    """
    for i in range(count):
        yield {
            key: found.draw(random.Random(f"{seed}/{i}/{key}")) if isinstance(found, Distribution) else found
            for key, found in space.items()
        }


def _four_digits(value: float, low: float, high: float) -> float:
    """As many as anyone tunes, so that what a folder's name says is all there is; the ends are kept to."""
    return min(max(float(f"{value:.4g}"), low), high)


def _check_ends(ends: Any, above: float) -> None:
    name = type(ends).__name__
    require(
        above < ends.low < ends.high < math.inf,
        f"{name}({ends.low}, {ends.high}): must be two finite numbers{' above 0' * (above == 0)}, the lower one first",
    )
