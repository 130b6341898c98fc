"""Rows of different lengths in one flat array, and operations on whole arrays of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64


class Ragged(NamedTuple):
    """Rows of different lengths in one flat array.

    Attributes:
      ids: row i is ``ids[offsets[i]:offsets[i + 1]]``.
      offsets: the start of each row, and the end of the last one.
      num_protected_tail: number of tokens at the end of a row that truncation keeps, such as the end token.
    """

    ids: Int32[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " rows_and_one"]
    num_protected_tail: int = 1

    @property
    def lengths(self) -> Int64[np.ndarray, " rows"]:
        return np.diff(self.offsets)

    @property
    def rows(self) -> Int64[np.ndarray, " tokens"]:
        """The row of each token."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    @property
    def columns(self) -> Int64[np.ndarray, " tokens"]:
        """The index of each token within its row."""
        return np.arange(len(self.ids)) - np.repeat(self.offsets[:-1], self.lengths)

    def take(self, rows: Int[np.ndarray, " taken"]) -> Ragged:
        """Returns the rows of these indices; an index of -1 gives an empty row."""
        rows = np.asarray(rows)
        return self.slices(self.offsets[rows], np.where(rows < 0, 0, self.offsets[rows + 1] - self.offsets[rows]))

    def slices(self, starts: Int[np.ndarray, " taken"], lengths: Int[np.ndarray, " taken"]) -> Ragged:
        """Returns rows that start at any places of the flat array."""
        offsets = to_offsets(lengths)
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Ragged(self.ids[places], offsets, self.num_protected_tail)

    def truncate(self, max_length: int) -> Ragged:
        """Truncates longer rows, keeping the protected tokens at their ends."""
        lengths = np.minimum(self.lengths, max_length)
        cut = self.slices(self.offsets[:-1], lengths)
        for back in range(1, self.num_protected_tail + 1):
            rows = lengths >= back
            cut.ids[cut.offsets[1:][rows] - back] = self.ids[self.offsets[1:][rows] - back]
        return cut

    def keep(self, kept: Bool[np.ndarray, " tokens"]) -> Ragged:
        """Returns the rows without the tokens that are not kept."""
        before = to_offsets(kept)
        return Ragged(self.ids[kept], before[self.offsets], self.num_protected_tail)

    def surround(self, prefix: Sequence[int], suffix: Sequence[int]) -> Ragged:
        """Returns the rows with the same ids before and after each of them; the suffix is the protected tail."""
        count = len(self.offsets) - 1
        return join([_repeat(prefix, count), self, _repeat(suffix, count)])._replace(num_protected_tail=len(suffix))

    def shift_right(self, first: int) -> Ragged:
        """Returns rows of the same lengths that start with ``first`` and lack their last token."""
        ids = np.concatenate([[np.int32(first)], self.ids[:-1]], dtype=np.int32)[: len(self.ids)]
        ids[self.offsets[:-1][self.lengths > 0]] = first
        return self._replace(ids=ids)


class Pairs(NamedTuple):
    """Sources and targets, row by row."""

    source: Ragged
    target: Ragged

    def take(self, rows: Int[np.ndarray, " taken"]) -> Pairs:
        """Returns the pairs of these indices; an index of -1 gives an empty pair."""
        return Pairs(self.source.take(rows), self.target.take(rows))


def to_ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    """Returns rows of ids, unchanged, as one flat array."""
    return Ragged(np.fromiter(chain.from_iterable(rows), np.int32), np.cumsum([0, *map(len, rows)], dtype=np.int64))


def to_offsets(lengths: Int[np.ndarray, " rows"] | Bool[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows_and_one"]:
    """Returns the offsets of rows of these lengths."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def concatenate(parts: Sequence[Ragged]) -> Ragged:
    """Returns the rows of all parts, one part after another."""
    ids = np.concatenate([part.ids for part in parts])
    return Ragged(ids, to_offsets(np.concatenate([part.lengths for part in parts])), parts[-1].num_protected_tail)


def join(parts: Sequence[Ragged]) -> Ragged:
    """Concatenates arrays of equally many rows row by row.

    Example:
      ``[4 5 | 6]`` and ``[7 | 8 9]`` (two rows each) give ``[4 5 7 | 6 8 9]``.
    """
    offsets = to_offsets(sum((part.lengths for part in parts), np.zeros(len(parts[0].offsets) - 1, np.int64)))
    ids = np.empty(offsets[-1], np.int32)
    starts = offsets[:-1].copy()
    for part in parts:
        lengths = part.lengths
        ids[np.arange(len(part.ids)) + np.repeat(starts - part.offsets[:-1], lengths)] = part.ids
        starts += lengths
    return Ragged(ids, offsets, parts[-1].num_protected_tail)


def _repeat(row: Sequence[int], count: int) -> Ragged:
    return Ragged(np.tile(np.array(row, np.int32), count), np.arange(count + 1, dtype=np.int64) * len(row))
