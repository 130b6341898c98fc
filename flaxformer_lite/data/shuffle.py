"""Random order of examples: one permutation per epoch, at any position without reading those before it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64


@runtime_checkable  # for the run-time checks of signatures in tests
class RowOrder(Protocol):
    """An infinite stream of row numbers, a function of ``seed`` and position."""

    seed: tuple[int, ...]

    def take(self, start: int, stop: int) -> Int64[np.ndarray, " taken"]:
        """Returns elements ``start`` to ``stop`` of the stream."""
        ...


class EpochShuffle:
    """An infinite stream of the integers below ``size``: one random permutation per epoch.

    Grain's own shuffle works element by element in Python: measured, 0.2 ms per element for a size of 100 and 6 ms for
    a size of 2.

    Args:
      size: the number of integers.
      seed: the seed, a sequence of integers.
    """

    def __init__(self, size: int, seed: Sequence[int]):
        self._size = size
        self.seed = tuple(seed)
        # Two, because a batch can start in one epoch and end in the next.
        self._order = functools.lru_cache(maxsize=2)(self._make_order)

    def take(self, start: int, stop: int) -> Int64[np.ndarray, " taken"]:
        parts = []
        for epoch in range(start // self._size, (stop - 1) // self._size + 1):
            begin = epoch * self._size
            parts.append(self._order(epoch)[max(start - begin, 0) : stop - begin])
        return np.concatenate(parts)

    def _make_order(self, epoch: int) -> Int64[np.ndarray, " size"]:
        return np.random.default_rng([*self.seed, epoch]).permutation(self._size)
