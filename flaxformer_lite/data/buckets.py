"""Length buckets: a few padded shapes for examples of many lengths."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int64

from flaxformer_lite.config.dataclasses import TrainConfig
from flaxformer_lite.data.ragged import Ragged

_MIN_LENGTH = 8  # tokens


class Buckets(NamedTuple):
    """Padded shapes and the examples of each.

    Attributes:
      shapes: (source length, target length) of each bucket, shortest first. Each shape is one compilation.
      rows: the rows of each bucket; a row lists the indices of its examples: one, unless rows are packed.
    """

    shapes: tuple[tuple[int, int], ...]
    rows: tuple[Ragged, ...]

    @property
    def padded_tokens(self) -> int:
        """Tokens of all rows, padding included."""
        return sum(len(rows.lengths) * sum(shape) for shape, rows in zip(self.shapes, self.rows, strict=True))


def choose_buckets(source_lengths: Int[np.ndarray, " n"], target_lengths: Int[np.ndarray, " n"], count: int) -> Buckets:
    """Partitions examples, ordered by the longer of source and target, so that padding is minimal.

    Exact for that order, by dynamic programming over the histogram of lengths; a bucket that saves nothing is not made.

    Args:
      source_lengths: tokens of each source.
      target_lengths: tokens of each target.
      count: maximum number of buckets.
    """
    lengths, of = np.unique(np.maximum(source_lengths, target_lengths), return_inverse=True)
    examples = np.bincount(of)
    longest_source = _group_maxima(of, source_lengths, len(lengths))
    longest_target = _group_maxima(of, target_lengths, len(lengths))
    bounds = _optimal_boundaries(examples, longest_source, longest_target, count)

    bucket_of = np.searchsorted(bounds, of, side="right") - 1
    order = np.argsort(bucket_of, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(bucket_of))[:-1])
    shapes = tuple((int(source_lengths[m].max()), int(target_lengths[m].max())) for m in members)
    return Buckets(shapes, tuple(Ragged(m.astype(np.int32), np.arange(len(m) + 1)) for m in members))


def pad_to_power_of_two(lengths: Int[np.ndarray, " n"], max_length: float) -> Int64[np.ndarray, " n"]:
    """Rounds each length up to 8, 16, 32, … tokens, at most ``max_length``; depends on that length only."""
    padded = 2 ** np.ceil(np.log2(np.maximum(lengths, _MIN_LENGTH)))
    return np.minimum(padded, max_length).astype(np.int64)


def batch_rows(config: TrainConfig, shape: tuple[int, int]) -> int:
    """Returns the number of rows, over all devices, of a training batch of a padded shape.

    It is ``train.batch_size``, or with ``train.tokens_per_batch`` as many rows as have at most that many tokens of
    source and target: a multiple of ``train.rows_multiple``, and at least that.
    """
    if not config.tokens_per_batch:
        return config.batch_size
    return max(config.tokens_per_batch // sum(shape) // config.rows_multiple, 1) * config.rows_multiple


def _group_maxima(group: Int[np.ndarray, " n"], values: Int[np.ndarray, " n"], groups: int) -> Int[np.ndarray, " g"]:
    result = np.zeros(groups, np.int64)
    np.maximum.at(result, group, values)
    return result


def _optimal_boundaries(
    examples: Int[np.ndarray, " g"], source: Int[np.ndarray, " g"], target: Int[np.ndarray, " g"], count: int
) -> list[int]:
    """Returns the start of each bucket, for buckets of adjacent groups with the fewest padded tokens in total.

    Args:
      examples: number of examples of each group.
      source: length of its longest source.
      target: length of its longest target.
      count: maximum number of buckets.
    """
    groups = len(examples)
    before = np.concatenate([[0], np.cumsum(examples)])
    # cost[k, j]: padded tokens of the first j groups in at most k + 1 buckets; start[k, j]: the start of the last one
    cost = np.full((count, groups + 1), np.inf)
    cost[:, 0] = 0
    start = np.zeros((count, groups + 1), np.int64)
    # The longest source and target of groups i..j for every i, updated for each j.
    longest_source, longest_target = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
    for j in range(groups):
        np.maximum(longest_source[: j + 1], source[j], out=longest_source[: j + 1])
        np.maximum(longest_target[: j + 1], target[j], out=longest_target[: j + 1])
        last = (before[j + 1] - before[: j + 1]) * (longest_source[: j + 1] + longest_target[: j + 1])
        cost[0, j + 1] = last[0]
        for k in range(1, count):
            totals = cost[k - 1, : j + 1] + last
            start[k, j + 1] = np.argmin(totals)
            cost[k, j + 1] = totals[start[k, j + 1]]
    bounds: list[int] = []
    end = groups
    for k in range(int(np.argmin(cost[:, groups])), -1, -1):
        end = int(start[k, end])
        bounds.append(end)
        if end == 0:
            break
    return bounds[::-1]
