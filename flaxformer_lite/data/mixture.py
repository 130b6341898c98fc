"""Mixtures: examples of several tasks in one dataset, drawn at given rates."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Int64, UInt64

from flaxformer_lite.data.buckets import Buckets
from flaxformer_lite.data.ragged import Pairs, Ragged, concatenate
from flaxformer_lite.data.shuffle import EpochShuffle
from flaxformer_lite.data.tokenized import Tokenized

_BLOCK = 10_000  # rows after which each component has its exact share


class MixedExamples(NamedTuple):
    """The examples of several components, numbered one after another.

    Attributes:
      parts: the examples of each component by name.
    """

    parts: Mapping[str, Tokenized]

    @property
    def arrays(self) -> dict[str, Ragged]:
        return {f"{name}/{side}": rows for name, part in self.parts.items() for side, rows in part.arrays.items()}

    @property
    def starts(self) -> Int64[np.ndarray, " parts"]:
        """The index of the first example of each component."""
        sizes = [len(part.max_lengths()[0]) for part in self.parts.values()]
        return np.cumsum([0, *sizes[:-1]])

    def max_lengths(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        source, target = zip(*(part.max_lengths() for part in self.parts.values()), strict=True)
        return np.concatenate(source), np.concatenate(target)

    def pairs(self, indices: Int[np.ndarray, " b"], keys: UInt64[np.ndarray, " b"]) -> Pairs:
        starts = self.starts
        part_of = np.maximum(np.searchsorted(starts, indices, side="right") - 1, 0)
        order = np.argsort(part_of, kind="stable")
        made = []
        for number, part in enumerate(self.parts.values()):
            rows = order[part_of[order] == number]
            own = np.where(indices[rows] < 0, -1, indices[rows] - starts[number])
            made.append(part.pairs(own, keys[rows]))
        place = np.argsort(order, kind="stable")
        return Pairs(*(concatenate(side) for side in zip(*made, strict=True))).take(place)


def rates_by_size(sizes: Sequence[int], rates: Sequence[float], temperature: float) -> list[float]:
    """Returns the rate of each component, which add up to 1.

    Args:
      sizes: number of training examples of each.
      rates: given relative frequencies.
      temperature: 0: the given rates; otherwise rates are multiplied by ``sizes ** (1 / temperature)``: 1 is in
        proportion to sizes, a large one uniform (Arivazhagan et al. 2019, section 4.2).
    """
    weights = np.array(rates) * (np.array(sizes, float) ** (1 / temperature) if temperature else 1)
    return (weights / weights.sum()).tolist()


class MixtureShuffle:
    """An infinite stream of the rows of one bucket in which each component has its share.

    In every block of 10,000 rows each component has the same number of rows, at random places; the rows of a component
    follow one another in a random permutation per epoch of that component.

    Args:
      sizes: number of rows of each component; they are numbered one component after another.
      shares: fraction of each component; 0 where it has no rows.
      seed: the seed, a sequence of integers.
    """

    def __init__(self, sizes: Sequence[int], shares: Float64[np.ndarray, " parts"], seed: Sequence[int]):
        self.seed = tuple(seed)
        self._first = np.cumsum([0, *sizes[:-1]])
        self._orders = [EpochShuffle(size, (*seed, number)) if size else None for number, size in enumerate(sizes)]
        self._counts = _largest_remainder(shares, _BLOCK)
        self._block = functools.lru_cache(maxsize=2)(self._make_block)

    def take(self, start: int, stop: int) -> Int64[np.ndarray, " taken"]:
        taken = []
        for block in range(start // _BLOCK, (stop - 1) // _BLOCK + 1):
            begin = block * _BLOCK
            taken.append(self._block(block)[max(start - begin, 0) : stop - begin])
        return np.concatenate(taken)

    def _make_block(self, block: int) -> Int64[np.ndarray, " rows"]:
        part_of = np.repeat(np.arange(len(self._counts)), self._counts)
        np.random.default_rng([*self.seed, len(self._counts), block]).shuffle(part_of)
        rows = np.empty(_BLOCK, np.int64)
        for number, (order, count) in enumerate(zip(self._orders, self._counts.tolist(), strict=True)):
            if order and count:
                own = order.take(block * count, (block + 1) * count)
                rows[part_of == number] = self._first[number] + own
        return rows


def component_rows(examples: MixedExamples, buckets: Buckets) -> Int64[np.ndarray, "buckets parts"]:
    """Returns the number of rows that each component has in each bucket, where they lie one component after another."""
    starts = examples.starts
    counts = np.zeros((len(buckets.rows), len(starts)), np.int64)
    for bucket, rows in enumerate(buckets.rows):
        part_of = np.searchsorted(starts, rows.ids[rows.offsets[:-1]], side="right") - 1
        counts[bucket] = np.bincount(part_of, minlength=len(starts))
    return counts


def _largest_remainder(shares: Float64[np.ndarray, " parts"], total: int) -> Int64[np.ndarray, " parts"]:
    """Integers in proportion to the shares that add up to ``total``; at least 1 for each share above 0."""
    exact = shares / shares.sum() * total
    counts = np.maximum(np.floor(exact), shares > 0).astype(np.int64)
    by_remainder = np.argsort(-(exact - counts), kind="stable")
    missing = total - int(counts.sum())
    counts[by_remainder[:missing]] += 1
    counts[np.argmax(counts)] += total - int(counts.sum())
    return counts
