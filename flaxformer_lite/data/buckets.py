"""A few padded shapes for examples of many lengths."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int64

_SMALLEST = 8  # tokens


class Buckets(NamedTuple):
    """Padded shapes and who goes into which.

    Attributes:
      shapes: (source length, target length) of each bucket, shortest first. Each is compiled once.
      members: the indices of each bucket's examples, in rising order.
    """

    shapes: tuple[tuple[int, int], ...]
    members: tuple[Int64[np.ndarray, " _"], ...]


def choose_buckets(source_lengths: Int[np.ndarray, " n"], target_lengths: Int[np.ndarray, " n"], count: int) -> Buckets:
    """Cuts the examples, ordered by the longer of source and target, where the least padding is wasted.

    Exact for that order, by dynamic programming over the histogram of lengths; never more buckets than help.

    Args:
      source_lengths: tokens of each source.
      target_lengths: tokens of each target.
      count: number of buckets at most.
    """
    lengths, of = np.unique(np.maximum(source_lengths, target_lengths), return_inverse=True)
    examples = np.bincount(of)
    longest_source = _maximum_of_each(of, source_lengths, len(lengths))
    longest_target = _maximum_of_each(of, target_lengths, len(lengths))
    bounds = _cheapest_cuts(examples, longest_source, longest_target, count)

    bucket_of = np.searchsorted(bounds, of, side="right") - 1
    order = np.argsort(bucket_of, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(bucket_of))[:-1])
    shapes = tuple((int(source_lengths[m].max()), int(target_lengths[m].max())) for m in members)
    return Buckets(shapes, tuple(members))


def doubling(lengths: Int[np.ndarray, " n"], most: float) -> Int64[np.ndarray, " n"]:
    """For each length the padded one: 8, 16, 32, … tokens but at most ``most``. A function of that length alone."""
    padded = 2 ** np.ceil(np.log2(np.maximum(lengths, _SMALLEST)))
    return np.minimum(padded, most).astype(np.int64)


def _maximum_of_each(group: Int[np.ndarray, " n"], values: Int[np.ndarray, " n"], groups: int) -> Int[np.ndarray, " g"]:
    result = np.zeros(groups, np.int64)
    np.maximum.at(result, group, values)
    return result


def _cheapest_cuts(
    examples: Int[np.ndarray, " g"], source: Int[np.ndarray, " g"], target: Int[np.ndarray, " g"], count: int
) -> list[int]:
    """Where each bucket starts, for buckets of neighboring groups whose padded tokens sum up to the least.

    Args:
      examples: how many examples each group has.
      source: its longest source.
      target: its longest target.
      count: number of buckets at most.
    """
    groups = len(examples)
    before = np.concatenate([[0], np.cumsum(examples)])
    # cost[k, j]: tokens of the first j groups in at most k + 1 buckets; start[k, j]: where the last of these begins
    cost = np.full((count, groups + 1), np.inf)
    cost[:, 0] = 0
    start = np.zeros((count, groups + 1), np.int64)
    # The longest source and target of groups i..j for every i, kept up to date while j moves on.
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
