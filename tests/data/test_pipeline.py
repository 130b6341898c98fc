"""The order of training examples: once per epoch, independent of the number of processes, resumable."""

import itertools

import jax
import numpy as np
import pytest

from flaxformer_lite.config.defaults import get_config
from flaxformer_lite.config.parsing import from_dict
from flaxformer_lite.data import dataset as datasets
from flaxformer_lite.data import pipeline
from flaxformer_lite.data.batching import tokenize
from flaxformer_lite.data.buckets import choose_buckets
from flaxformer_lite.data.dataset import Dataset
from flaxformer_lite.data.tasks import Examples
from flaxformer_lite.data.tokenized import TokenizedPairs
from flaxformer_lite.data.vocabularies.base import SPECIAL
from flaxformer_lite.data.vocabularies.byte import ByteVocabulary
from flaxformer_lite.errors import InputError


def _dataset(examples, buckets):
    """Examples whose targets are their indices."""
    random = np.random.default_rng(examples)
    sources = tokenize(ByteVocabulary(), ["x" * n for n in random.integers(1, 12, size=examples)])
    targets = tokenize(ByteVocabulary(), [f"{i:03}" for i in range(examples)])
    buckets = choose_buckets(sources.lengths, targets.lengths, buckets)
    return Dataset(TokenizedPairs(sources, targets), buckets, SPECIAL)


def _batches(dataset, batch_size, seed, process_index, process_count, prefetch):
    shard = process_index, process_count
    return pipeline.training_batches(dataset, lambda shape: batch_size, seed, shard, prefetch)


def _indices(batch):
    return [int(ByteVocabulary().decode(row)) for row in batch.labels]


def _take(dataset, count, batch_size=6, seed=3, process_index=0, process_count=1, prefetch=0):
    batches = _batches(dataset, batch_size, seed, process_index, process_count, prefetch)
    return list(itertools.islice(batches, count))


def _assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize(("examples", "buckets", "batch_size"), [(60, 1, 6), (47, 3, 5), (7, 20, 4), (5, 2, 16)])
def test_each_example_occurs_once_per_epoch(examples, buckets, batch_size):
    dataset = _dataset(examples, buckets)
    seen = {members.ids.tobytes(): [] for members in dataset.buckets.rows}
    shapes = dict(zip(dataset.buckets.shapes, seen, strict=True))
    for batch in _take(dataset, 400, batch_size):
        seen[shapes[batch.source.ids.shape[1], batch.labels.shape[1]]] += _indices(batch)
    for members in dataset.buckets.rows:
        stream = seen[members.ids.tobytes()]
        assert len(stream) >= 2 * len(members.ids)
        for start in range(0, len(stream) - len(members.ids) + 1, len(members.ids)):
            assert sorted(stream[start : start + len(members.ids)]) == members.ids.tolist()


def test_buckets_alternate_in_proportion_to_their_sizes():
    dataset = _dataset(200, 3)
    sizes = [len(members.ids) for members in dataset.buckets.rows]
    lengths = [batch.source.ids.shape[1] for batch in _take(dataset, 500)]
    for (length, _), size in zip(dataset.buckets.shapes, sizes, strict=True):
        assert lengths.count(length) == pytest.approx(500 * size / 200, abs=6)


def test_order_differs_between_epochs_seeds_and_buckets():
    dataset = _dataset(64, 1)
    stream = [name for batch in _take(dataset, 16, 8) for name in _indices(batch)]
    first, second = stream[:64], stream[64:]
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second
    other = [name for batch in _take(dataset, 16, 8, seed=4) for name in _indices(batch)]
    assert other[:64] not in (first, second)
    assert other[64:] not in (first, second)


@pytest.mark.parametrize("prefetch", [0, 3])
def test_resuming_from_a_saved_position(prefetch):
    dataset = _dataset(47, 3)
    batches = _batches(dataset, 5, 1, 0, 1, prefetch)
    before = list(itertools.islice(batches, 23))
    state = batches.get_state()
    after = list(itertools.islice(batches, 30))
    again = _batches(dataset, 5, 1, 0, 1, prefetch)
    _assert_equal(list(itertools.islice(again, 23)), before)
    resumed = _batches(dataset, 5, 1, 0, 1, 0)
    resumed.set_state(state)
    _assert_equal(list(itertools.islice(resumed, 30)), after)


@pytest.mark.parametrize("process_count", [2, 3, 6])
def test_batches_are_independent_of_the_number_of_processes(process_count):
    dataset = _dataset(47, 3)
    whole = _take(dataset, 40)
    shares = [_take(dataset, 40, process_index=i, process_count=process_count) for i in range(process_count)]
    for batch, *parts in zip(whole, *shares, strict=True):
        _assert_equal(jax.tree.map(lambda *rows: np.concatenate(rows), *parts), batch)


def test_batch_size_must_be_divisible_by_the_number_of_processes():
    with pytest.raises(InputError, match=r"batch_size=6: .* 4 processes"):
        _batches(_dataset(47, 3), 6, 0, 0, 4, 0)


@pytest.mark.parametrize(("examples", "batch_size"), [(47, 5), (3, 8)])
def test_evaluation_uses_every_example_once(examples, batch_size):
    dataset = _dataset(examples, 3)
    names, weight = [], 0.0
    for batch in pipeline.eval_batches(dataset, lambda shape: batch_size):
        assert len(batch.labels) == batch_size
        real = batch.source.segments.any(axis=1)
        names += [name for name, this in zip(batch.labels, real, strict=True) if this]
        weight += batch.weights.sum()
        assert not batch.weights[~real].any()
    assert sorted(int(ByteVocabulary().decode(row)) for row in names) == list(range(examples))
    assert weight == len(dataset.examples.target.ids)


def _config(**changes):
    config = get_config()
    config.data.update(changes)
    return from_dict(config.to_dict()).data


def test_load_training():
    config = _config(reverse={"examples": 200}, max_source_length=8, max_target_length=9, num_buckets=2)
    prepared = datasets.load_training(config, seed=0)
    lengths = prepared.train.examples.source.lengths
    assert len(lengths) == prepared.counts["training"].examples - prepared.counts["training"].dropped < 200
    assert lengths.max() <= 8
    assert len(prepared.validation[""].examples) == len(prepared.validation[""].dataset.examples.source.lengths) == 20
    assert prepared.counts["validation"].truncated > 0 == prepared.counts["validation"].dropped
    assert prepared.source_vocabulary.size == 4 + 10
    batch = next(_batches(prepared.train, 4, 0, 0, 1, 0))
    source = prepared.source_vocabulary.decode(batch.source.ids[2])
    assert prepared.target_vocabulary.decode(batch.labels[2]) == source[::-1]


def test_a_shared_vocabulary_has_the_entries_of_both_sides():
    examples = Examples(["ab", "b"], [("xy", "x"), ("z",)])
    source, target = datasets.build_vocabularies(_config(share_vocabulary=True), *examples.pairs())
    assert source is target
    assert sorted(source.entries) == list("abxyz")
    dataset, _ = datasets.make_dataset(examples, datasets.Vocabularies(source, target), _config())
    assert dataset.num_examples == 3  # one for each reference
