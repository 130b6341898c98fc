"""Packed rows contain every example once, fit, and have little padding."""

import numpy as np
import pytest

from flaxformer_lite.config.defaults import get_config
from flaxformer_lite.config.parsing import from_dict
from flaxformer_lite.data.buckets import batch_rows
from flaxformer_lite.data.packing import pack_examples, pack_into_rows


def _row_sums(values, rows):
    return np.array([values[rows.ids[a:b]].sum() for a, b in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)])


@pytest.mark.parametrize("seed", range(5))
def test_each_example_is_in_one_row_and_rows_fit(seed):
    random = np.random.default_rng(seed)
    source, target = random.integers(1, 18, 300), random.integers(1, 31, 300)
    rows = pack_examples(source, target, (19, 31))
    assert sorted(rows.ids) == list(range(300))
    assert (rows.lengths > 0).all()
    assert _row_sums(source, rows).max() <= 19
    assert _row_sums(target, rows).max() <= 31
    again = pack_examples(source, target, (19, 31))
    assert again.ids.tolist() == rows.ids.tolist()


def test_the_example_of_the_docstring():
    rows = pack_examples(np.array([5, 3, 2, 2]), np.array([2, 2, 3, 1]), (7, 5))
    assert sorted(tuple(rows.ids[a:b]) for a, b in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)) == [
        (0, 2),
        (1, 3),
    ]


def test_padding_is_at_most_five_percent():
    """Lengths distributed as those of captions: means of 14, standard deviations of 4, correlated."""
    random = np.random.default_rng(0)
    source = np.clip(random.normal(14, 4, 20_000), 2, 40).astype(int)
    target = np.clip(source + random.normal(0, 2, 20_000), 2, 40).astype(int)
    buckets = pack_into_rows(source, target, 128)
    assert 1 - (source.sum() + target.sum()) / buckets.padded_tokens < 0.02
    assert buckets.shapes[0][0] == 128


def test_rows_are_as_long_as_the_longest_example():
    buckets = pack_into_rows(np.array([3, 40, 5]), np.array([90, 4, 5]), 16)
    assert buckets.shapes == ((40, 90),)


def _train_config(**changes):
    config = get_config()
    config.train.update(changes)
    return from_dict(config.to_dict()).train


def test_rows_follow_from_the_token_budget():
    config = _train_config(tokens_per_batch=4_096, rows_multiple=8)
    assert batch_rows(config, (20, 30)) == 80  # of 81.9
    assert batch_rows(config, (1_000, 2_000)) == 8  # at least rows_multiple
    assert batch_rows(_train_config(batch_size=17), (20, 30)) == 17
