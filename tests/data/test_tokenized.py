"""Batches of a self-supervised objective: the same for any division among processes and after resuming."""

import itertools

import jax
import numpy as np
import pytest

from flaxformer_lite.data import pipeline
from flaxformer_lite.data.buckets import choose_buckets
from flaxformer_lite.data.dataset import Dataset
from flaxformer_lite.data.objectives.span_corruption import SpanCorruption
from flaxformer_lite.data.packing import pack_into_rows
from flaxformer_lite.data.ragged import to_ragged
from flaxformer_lite.data.tokenized import Affixes, TokenizedTexts
from flaxformer_lite.data.vocabularies.base import SPECIAL
from tests.data.objectives.fake_vocabulary import FIRST, NUM_SENTINELS, FakeVocabulary


def _dataset(packed: bool) -> Dataset:
    random = np.random.default_rng(0)
    vocabulary = FakeVocabulary()
    last = vocabulary.size - NUM_SENTINELS
    rows = [random.integers(FIRST, last, n).tolist() for n in random.integers(1, 30, 61)]
    affixes = Affixes((9,), (SPECIAL.end,))
    texts = TokenizedTexts(to_ragged(rows), SpanCorruption().bind(vocabulary), affixes, Affixes((), (SPECIAL.end,)))
    lengths = texts.max_lengths()
    buckets = pack_into_rows(*lengths, 48) if packed else choose_buckets(*lengths, 3)
    return Dataset(texts, buckets, SPECIAL)


def _take(dataset, start, stop, index=0, count=1, seed=7):
    batches = pipeline.training_batches(dataset, lambda shape: 12, seed, (index, count), 0)
    return list(itertools.islice(batches, start, stop))


def _assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("count", [2, 4])
def test_batches_are_independent_of_the_number_of_processes(packed, count):
    dataset = _dataset(packed)
    whole = _take(dataset, 0, 20)
    parts = [_take(dataset, 0, 20, i, count) for i in range(count)]
    for batch, *shards in zip(whole, *parts, strict=True):
        _assert_equal(jax.tree.map(lambda *rows: np.concatenate(rows), *shards), batch)


@pytest.mark.parametrize("packed", [False, True])
def test_resuming_gives_the_same_corruption_and_each_epoch_another(packed):
    dataset = _dataset(packed)
    batches = pipeline.training_batches(dataset, lambda shape: 12, 7, (0, 1), 0)
    before = list(itertools.islice(batches, 13))
    state = batches.get_state()
    after = list(itertools.islice(batches, 10))
    resumed = pipeline.training_batches(dataset, lambda shape: 12, 7, (0, 1), 0)
    resumed.set_state(state)
    _assert_equal(list(itertools.islice(resumed, 10)), after)
    assert len({batch.labels.tobytes() for batch in before + after}) == 23


@pytest.mark.parametrize("packed", [False, True])
def test_evaluation_makes_the_same_pairs_of_every_example_once(packed):
    dataset = _dataset(packed)
    first, again = (list(pipeline.eval_batches(dataset, lambda shape: 7)) for _ in range(2))
    _assert_equal(first, again)
    num_ends = sum(int((batch.labels == SPECIAL.end).sum()) for batch in first)
    assert num_ends == 61
    assert sum(int((batch.source.ids == 9).sum()) for batch in first) == 61
    assert all(batch.weights.sum() == (batch.target_in.segments > 0).sum() for batch in first)


def test_padding_counts_the_tokens_of_an_epoch():
    dataset = _dataset(True)
    source, target = dataset.examples.max_lengths()
    tokens = [
        (batch.source.segments > 0).sum() + batch.weights.sum() for batch in pipeline.eval_batches(dataset, lambda _: 1)
    ]
    assert sum(tokens) == source.sum() + target.sum()
    assert dataset.padding == pytest.approx(1 - sum(tokens) / dataset.buckets.padded_tokens)
