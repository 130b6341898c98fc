"""Buckets contain every example once, with minimal padding."""

import itertools
import time

import numpy as np
import pytest

from flaxformer_lite.data.buckets import choose_buckets


def _padded(source, target, groups):
    return sum(len(group) * (source[group].max() + target[group].max()) for group in groups if len(group))


@pytest.mark.parametrize("count", [1, 2, 3, 9])
@pytest.mark.parametrize("seed", range(4))
def test_padding_is_minimal(count, seed):
    random = np.random.default_rng(seed)
    source, target = random.integers(1, 9, size=30), random.integers(1, 7, size=30)
    buckets = choose_buckets(source, target, count)
    longest = np.maximum(source, target)
    # All partitions of the lengths into at most count parts.
    best = min(
        _padded(source, target, [np.flatnonzero((low < longest) & (longest <= high)) for low, high in ends])
        for cuts in itertools.combinations_with_replacement(range(1, 9), count - 1)
        for ends in [list(itertools.pairwise([0, *cuts, 8]))]
    )
    assert _padded(source, target, [rows.ids for rows in buckets.rows]) == best
    assert len(buckets.shapes) <= count


def test_each_example_is_in_one_bucket_that_fits_it():
    random = np.random.default_rng(5)
    source, target = random.integers(1, 40, size=500), random.integers(1, 30, size=500)
    buckets = choose_buckets(source, target, 4)
    assert sorted(np.concatenate([rows.ids for rows in buckets.rows])) == list(range(500))
    for (source_length, target_length), members in zip(
        buckets.shapes, [rows.ids for rows in buckets.rows], strict=True
    ):
        assert source[members].max() == source_length
        assert target[members].max() == target_length
        assert (np.diff(members) > 0).all()
    assert list(map(max, buckets.shapes)) == sorted(map(max, buckets.shapes))


def test_no_more_buckets_than_lengths():
    buckets = choose_buckets(np.array([3, 5, 3, 5, 5]), np.array([2, 4, 2, 4, 4]), 7)
    assert buckets.shapes == ((3, 2), (5, 4))
    assert [members.tolist() for members in [rows.ids for rows in buckets.rows]] == [[0, 2], [1, 3, 4]]


def test_buckets_of_one_shape_are_merged():
    # Lengths 4 and 5 by the longer side; in the second case one shape serves both without more padding.
    assert len(choose_buckets(np.array([4, 4]), np.array([4, 5]), 2).shapes) == 2
    assert len(choose_buckets(np.array([5, 5]), np.array([2, 2]), 2).shapes) == 1


def test_millions_of_examples_take_seconds():
    random = np.random.default_rng(0)
    source, target = random.integers(1, 300, size=(2, 1_000_000))
    start = time.perf_counter()
    choose_buckets(source, target, 6)
    assert time.perf_counter() - start < 5
