"""Batch arrays of texts, in NumPy over whole batches: tokenization, length limits, padding."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64

from flaxformer_lite.data.ragged import Pairs, Ragged, to_offsets
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import require
from flaxformer_lite.types import Batch, SpecialIds, Tokens


class OverlengthCounts(NamedTuple):
    """Numbers of examples in all and of those that were too long."""

    examples: int
    dropped: int
    truncated: int
    split: int = 0


def tokenize(vocabulary: Vocabulary, texts: Iterable[str], affixes: bool = True) -> Ragged:
    """Returns the ids of texts, each between the vocabulary's prefix and suffix ids (mostly: before the end id).

    Args:
      vocabulary: the vocabulary.
      texts: the texts.
      affixes: whether to add the prefix and suffix ids.

    Example:
      With a = 4 and b = 5, ``["ab", "", "b"]`` gives ``ids [4 5 1 1 5 1]`` and ``offsets [0 3 4 6]``.
    """
    ids, offsets = array("i"), array("q", [0])
    prefix, suffix = (vocabulary.prefix_ids, vocabulary.suffix_ids) if affixes else ((), ())
    for text in texts:
        ids.extend(prefix)
        ids.extend(vocabulary.encode(text))
        ids.extend(suffix)
        offsets.append(len(ids))
    return Ragged(np.frombuffer(ids, np.int32), np.frombuffer(offsets, np.int64), len(suffix))


def limit_lengths(
    source: Ragged,
    target: Ragged,
    max_source_length: int,
    max_target_length: int,
    truncate: bool,
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
    if truncate:
        counts = OverlengthCounts(len(fits), dropped=0, truncated=num_overlong)
        source, target = source.truncate(max_source_length), target.truncate(max_target_length)
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
    return source.take(kept), target.take(kept), kept, counts


def pad(ragged: Ragged, indices: Int[np.ndarray, " b"], length: int, special: SpecialIds) -> Tokens:
    """Returns the rows of these indices as one padded array; an index of -1 is a row of padding.

    Example:
      Of ``[4 5 1]`` and ``[6 1]`` the rows ``[1, -1, 0]`` at length 4::

          ids        segments   positions
          6 1 0 0    1 1 0 0    0 1 0 0
          0 0 0 0    0 0 0 0    0 0 0 0
          4 5 1 0    1 1 1 0    0 1 2 0
    """
    return pack(ragged.take(indices), np.ones(len(indices), np.int64), length, special)


def pack(ragged: Ragged, counts: Int[np.ndarray, " b"], length: int, special: SpecialIds) -> Tokens:
    """Places examples one after another into padded rows, each as a segment of its own.

    Args:
      ragged: the examples, in the order of rows.
      counts: number of examples in each row.
      length: of the padded rows.
      special: with the id of padding.

    Example:
      ``[4 5 1]``, ``[6 1]`` and ``[7 1]`` with counts ``[2, 1]`` at length 6::

          ids            segments       positions
          4 5 1 6 1 0    1 1 1 2 2 0    0 1 2 0 1 0
          7 1 0 0 0 0    1 1 0 0 0 0    0 1 0 0 0 0
    """
    bounds = to_offsets(counts)
    is_real = np.arange(length) < np.diff(ragged.offsets[bounds])[:, None]
    numbers = np.arange(1, bounds[-1] + 1) - np.repeat(bounds[:-1], counts)
    return Tokens(
        ids=_place(ragged.ids, is_real, special.pad),
        segments=_place(np.repeat(numbers, ragged.lengths), is_real, 0),
        positions=_place(ragged.columns, is_real, 0),
    )


def make_batch(pairs: Pairs, counts: Int[np.ndarray, " b"], shape: tuple[int, int], special: SpecialIds) -> Batch:
    """Returns pairs as one batch.

    Args:
      pairs: sources and targets, in the order of rows.
      counts: number of pairs in each row, see ``pack``.
      shape: lengths of padded source and target rows.
      special: the ids of special tokens.

    Example:
      A target ``[4 5 1]`` at length 4 becomes::

          labels     4 5 1 0
          target_in  2 4 5 0
          weights    1 1 1 0
    """
    source_length, target_length = shape
    labels = pack(pairs.target, counts, target_length, special)
    is_real = np.asarray(labels.segments) > 0
    shifted = _place(pairs.target.shift_right(special.begin).ids, is_real, special.pad)
    return Batch(
        source=pack(pairs.source, counts, source_length, special),
        target_in=labels._replace(ids=shifted),
        labels=labels.ids,
        weights=is_real.astype(np.float32),
    )


def _place(
    values: Int[np.ndarray, " tokens"], is_real: Bool[np.ndarray, "b l"], padding: int
) -> Int32[np.ndarray, "b l"]:
    """The array that has values where ``is_real`` is True, in row-major order."""
    placed = np.full(is_real.shape, padding, np.int32)
    placed[is_real] = values
    return placed


def _span(ragged: Ragged) -> str:
    return f"{ragged.lengths.min()} to {ragged.lengths.max()}"
