"""Where the points of a sweep come from: a list, or a search that learns from those before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from flaxformer_lite.sweeps.status import Standing
from flaxformer_lite.sweeps.trials import Point

Standings = Mapping[str, Standing]  # by the points' names


@runtime_checkable
class Source(Protocol):
    """Gives points as there is room for them, and is told what becomes of them."""

    @property
    def points(self) -> Sequence[Point]:
        """Those that there are so far, in the order in which they are to be run."""
        ...

    @property
    def to_come(self) -> int:
        """How many more there may be."""
        ...

    def draw(self, room: int) -> None:
        """Adds so many points, or as many as there still are."""
        ...

    def hopeless(self, point: Point) -> bool:
        """Whether a point that is at work need not end."""
        ...

    def tell(self, point: Point, standing: Standing) -> None:
        """What has become of a point; it may be told more than once."""
        ...


class Listed:
    """Points that are known from the start."""

    to_come = 0

    def __init__(self, points: Sequence[Point]):
        self.points = points

    def draw(self, room: int) -> None:
        """There are no more."""
        del room

    def hopeless(self, point: Point) -> bool:
        """Every one runs to its end."""
        del point
        return False

    def tell(self, point: Point, standing: Standing) -> None:
        """Nothing is learned from it."""
        del point, standing
