"""Batch arrays of texts, in NumPy over whole batches: tokenization, length limits, padding."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Int64

from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import require
from flaxformer_lite.types import Batch, SpecialIds, Tokens


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


class OverlengthCounts(NamedTuple):
    """Numbers of examples in all and of those that were too long."""

    examples: int
    dropped: int
    truncated: int


def tokenize(vocabulary: Vocabulary, texts: Iterable[str]) -> Ragged:
    """Returns the ids of texts, each between the vocabulary's prefix and suffix ids (mostly: before the end id).

    Example:
      With a = 4 and b = 5, ``["ab", "", "b"]`` gives ``ids [4 5 1 1 5 1]`` and ``offsets [0 3 4 6]``.
    """
    ids, offsets = array("i"), array("q", [0])
    prefix, suffix = vocabulary.prefix_ids, vocabulary.suffix_ids
    for text in texts:
        ids.extend(prefix)
        ids.extend(vocabulary.encode(text))
        ids.extend(suffix)
        offsets.append(len(ids))
    return Ragged(np.frombuffer(ids, np.int32), np.frombuffer(offsets, np.int64), len(suffix))


def to_ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    """Returns rows of ids, unchanged, as one flat array."""
    return Ragged(np.fromiter(chain.from_iterable(rows), np.int32), np.cumsum([0, *map(len, rows)], dtype=np.int64))


def limit_lengths(
    source: Ragged,
    target: Ragged,
    max_source_length: int,
    max_target_length: int,
    overlength: Literal["drop", "truncate"],
) -> tuple[Ragged, Ragged, Int64[np.ndarray, " kept"], OverlengthCounts]:
    """Drops or truncates the examples whose source or target is too long.

    Returns:
      source, target, the indices of the examples that are left, and how many were dropped or truncated.

    Raises:
      InputError: no example is left.

    Example:
      Sources ``[4 5 6 1]`` and ``[4 1]`` with a maximum of 3: dropping leaves ``[4 1]``, truncating ``[4 5 1]`` and
      ``[4 1]``.
    """
    fits = (source.lengths <= max_source_length) & (target.lengths <= max_target_length)
    num_overlong = int(np.sum(~fits))
    if num_overlong == 0:
        return source, target, np.arange(len(fits)), OverlengthCounts(len(fits), dropped=0, truncated=0)
    if overlength == "truncate":
        counts = OverlengthCounts(len(fits), dropped=0, truncated=num_overlong)
        source, target = truncate(source, max_source_length), truncate(target, max_target_length)
        return source, target, np.arange(len(fits)), counts
    require(
        bool(fits.any()),
        f"config.data.max_source_length={max_source_length}, config.data.max_target_length={max_target_length}",
        f"every one of {len(fits)} examples is too long: sources have {_span(source)} tokens, targets "
        f"{_span(target)}, special tokens included",
        "raise these, or set config.data.overlength='truncate'",
    )
    kept = np.flatnonzero(fits)
    counts = OverlengthCounts(len(fits), dropped=num_overlong, truncated=0)
    return _take(source, kept), _take(target, kept), kept, counts


def truncate(ragged: Ragged, max_length: int) -> Ragged:
    """Truncates longer rows, keeping the protected tokens at their ends."""
    lengths = np.minimum(ragged.lengths, max_length)
    cut = _slice(ragged, ragged.offsets[:-1], lengths)
    for back in range(1, ragged.num_protected_tail + 1):
        rows = lengths >= back
        cut.ids[cut.offsets[1:][rows] - back] = ragged.ids[ragged.offsets[1:][rows] - back]
    return cut


def pad(ragged: Ragged, indices: Int[np.ndarray, " b"], length: int, special: SpecialIds) -> Tokens:
    """Returns the rows of these indices as one padded array; an index of -1 is a row of padding.

    Example:
      Of ``[4 5 1]`` and ``[6 1]`` the rows ``[1, -1, 0]`` at length 4::

          ids        segments   positions
          6 1 0 0    1 1 0 0    0 1 0 0
          0 0 0 0    0 0 0 0    0 0 0 0
          4 5 1 0    1 1 1 0    0 1 2 0
    """
    starts = ragged.offsets[indices]
    lengths = np.where(indices < 0, 0, ragged.offsets[indices + 1] - starts)
    columns = np.arange(length, dtype=np.int32)
    real = columns < lengths[:, None]
    places = np.where(real, starts[:, None] + columns, 0)
    return Tokens(
        ids=np.where(real, ragged.ids[places], np.int32(special.pad)),
        segments=real.astype(np.int32),
        positions=np.where(real, columns, np.int32(0)),
    )


def make_batch(
    source: Ragged, target: Ragged, indices: Int[np.ndarray, " b"], shape: tuple[int, int], special: SpecialIds
) -> Batch:
    """Returns the examples of these indices as one batch of padded ``shape`` (source length, target length).

    Example:
      A target ``[4 5 1]`` at length 4 becomes::

          labels     4 5 1 0
          target_in  2 4 5 0
          weights    1 1 1 0
    """
    source_length, target_length = shape
    labels = pad(target, indices, target_length, special)
    shifted = np.empty_like(labels.ids)
    shifted[:, 0] = special.begin
    shifted[:, 1:] = labels.ids[:, :-1]
    real = labels.segments > 0
    return Batch(
        source=pad(source, indices, source_length, special),
        target_in=labels._replace(ids=np.where(real, shifted, np.int32(special.pad))),
        labels=labels.ids,
        weights=real.astype(np.float32),
    )


def _span(ragged: Ragged) -> str:
    return f"{ragged.lengths.min()} to {ragged.lengths.max()}"


def _take(ragged: Ragged, rows: Int64[np.ndarray, " kept"]) -> Ragged:
    return _slice(ragged, ragged.offsets[rows], ragged.lengths[rows])


def _slice(ragged: Ragged, starts: Int64[np.ndarray, " rows"], lengths: Int64[np.ndarray, " rows"]) -> Ragged:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Ragged(ragged.ids[places], offsets, ragged.num_protected_tail)
