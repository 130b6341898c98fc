"""Packing: several examples in one row of a batch, as segments that do not attend to one another."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Int, Int64

from flaxformer_lite.data.buckets import Buckets
from flaxformer_lite.data.ragged import Ragged, concatenate, to_offsets

ONE_PART = np.zeros(1, np.int64)


def pack_into_rows(
    source_lengths: Int[np.ndarray, " n"],
    target_lengths: Int[np.ndarray, " n"],
    source_length: int,
    starts: Int[np.ndarray, " parts"] = ONE_PART,
) -> Buckets:
    """Packs examples into rows of one shape, in which sources and targets fill up alike.

    Args:
      source_lengths: tokens of each source.
      target_lengths: tokens of each target.
      source_length: tokens of a row of sources; more where one source is longer. The targets' rows follow from it.
      starts: the first example of each part, such as the components of a mixture, whose examples share no rows.
    """
    ratio = target_lengths.sum() / max(source_lengths.sum(), 1)
    width = max(source_length, int(source_lengths.max()))
    shape = width, max(int(np.ceil(width * ratio)), int(target_lengths.max()))
    rows = []
    for start, stop in itertools.pairwise([*starts.tolist(), len(source_lengths)]):
        packed = pack_examples(source_lengths[start:stop], target_lengths[start:stop], shape)
        rows.append(packed._replace(ids=packed.ids + np.int32(start)))
    return Buckets((shape,), (concatenate(rows),))


def pack_examples(
    source_lengths: Int[np.ndarray, " n"], target_lengths: Int[np.ndarray, " n"], shape: tuple[int, int]
) -> Ragged:
    """Partitions examples into rows such that both the sources and the targets of a row fit.

    Histogram packing (Krell et al. 2021, "Efficient Sequence Packing without Cross-contamination") with two lengths:
    each row starts with the largest example that is left and takes those that leave the least room on both sides. All
    examples of the same two lengths are treated together, so the time depends on the number of distinct lengths. Which
    of them share a row is random.

    Args:
      source_lengths: tokens of each source.
      target_lengths: tokens of each target.
      shape: source and target tokens of a row; no example is longer.

    Returns:
      The indices of the examples of each row.

    Example:
      Sources of 5, 3, 2 and 2 tokens with targets of 2, 2, 3 and 1 tokens in rows of (7, 5) give the rows ``[0 2]`` and
      ``[1 3]``.
    """
    width = int(target_lengths.max(initial=0)) + 1
    kinds, kind_of, counts = np.unique(source_lengths * width + target_lengths, return_inverse=True, return_counts=True)
    source, target = np.divmod(kinds, width)
    largest_first = np.argsort(-np.maximum(source / shape[0], target / shape[1]), kind="stable")
    patterns, repeats = _fill(source[largest_first], target[largest_first], counts[largest_first], shape)

    # The examples of each kind in random order, taken from the front by the patterns that contain the kind.
    shuffled = np.random.default_rng(len(kind_of)).permutation(len(kind_of))
    by_kind = shuffled[np.argsort(kind_of[shuffled], kind="stable")]
    lengths = np.repeat([len(pattern) for pattern in patterns], repeats)
    kind_in_row = np.concatenate([np.tile(largest_first[p], r) for p, r in zip(patterns, repeats, strict=True)])
    order = np.argsort(kind_in_row, kind="stable")
    rows = np.empty(len(by_kind), np.int32)
    rows[order] = by_kind
    return Ragged(rows, to_offsets(lengths), 0)


def _fill(
    source: Int64[np.ndarray, " k"],
    target: Int64[np.ndarray, " k"],
    counts: Int64[np.ndarray, " k"],
    shape: tuple[int, int],
) -> tuple[list[list[int]], list[int]]:
    """Returns the patterns of kinds in a row, and the number of rows of each, for kinds in order of size."""
    left = counts.copy()
    patterns, repeats = [], []
    first = 0
    while True:
        while first < len(left) and left[first] == 0:
            first += 1
        if first == len(left):
            return patterns, repeats
        used = np.zeros_like(left)
        pattern, room = [], np.array(shape)
        kind = first
        while True:
            pattern.append(kind)
            used[kind] += 1
            room -= (source[kind], target[kind])
            fits = np.flatnonzero((used < left) & (source <= room[0]) & (target <= room[1]))
            if len(fits) == 0:
                break
            free = (room - np.stack([source[fits], target[fits]], axis=1)) / shape
            # The larger of both fractions that stay free counts most, so that both sides fill up alike.
            kind = int(fits[np.argmin(free.max(axis=1) + 0.1 * free.sum(axis=1))])
        repeat = int((left[pattern] // used[pattern]).min())
        left -= repeat * used
        patterns.append(pattern)
        repeats.append(repeat)
