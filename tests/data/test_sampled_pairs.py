"""Batches with subword sampling: the same texts, other segmentations in each epoch, the same ones after a resume."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from flaxformer_lite.config import parsing
from flaxformer_lite.config.defaults import get_config
from flaxformer_lite.data import pipeline
from flaxformer_lite.data.dataset import build_vocabularies, for_evaluation, make_dataset
from flaxformer_lite.data.tasks import Examples
from flaxformer_lite.data.tokenized import SampledPairs, TokenizedPairs
from flaxformer_lite.errors import InputError

_SOURCES = [f"newest lowest number {i:o} and {i:x}" for i in range(90)]
_TARGETS = [f"{i:o} widest" for i in range(90)]
_EXAMPLES = Examples(_SOURCES, [(target,) for target in _TARGETS])


def _config(**changes):
    values = get_config()
    for side in ("source", "target"):
        values.data[f"{side}_vocabulary"].update(kind="sentencepiece", size=290)
    values.data.update(max_source_length=40, max_target_length=30, num_buckets=2, **changes)
    values.eval.update(metrics=(), best_metric="loss")
    return parsing.from_dict(values.to_dict())


@pytest.fixture(scope="module")
def vocabularies():
    return build_vocabularies(_config().data, *_EXAMPLES.pairs())


def _batches(dataset, first, last, index=0, count=1):
    batches = pipeline.training_batches(dataset, lambda shape: 12, 7, (index, count), 0)
    return list(itertools.islice(batches, first, last))


def _texts(vocabularies, batches):
    """The segmentations of each pair of texts."""
    found = {}
    for batch in batches:
        for source, target in zip(batch.source.ids, batch.labels, strict=True):
            if source.any():
                pair = vocabularies.source.decode(source), vocabularies.target.decode(target)
                found.setdefault(pair, set()).add((tuple(source.tolist()), tuple(target.tolist())))
    return found


@pytest.mark.parametrize("pack", [False, True])
def test_each_epoch_segments_the_same_texts_anew(vocabularies, pack):
    data = _config(source_subword_sampling=0.3, target_subword_sampling=0.3, pack=pack, packed_length=80).data
    dataset, _ = make_dataset(_EXAMPLES, vocabularies, data)
    assert isinstance(dataset.examples, SampledPairs)
    batches = _batches(dataset, 0, 60)
    jax.tree.map(np.testing.assert_array_equal, _batches(dataset, 31, 60), batches[31:])  # after a resume
    shards = [_batches(dataset, 0, 60, i, 2) for i in range(2)]
    for batch, *parts in zip(batches, *shards, strict=True):
        jax.tree.map(lambda whole, *rows: np.testing.assert_array_equal(np.concatenate(rows), whole), batch, *parts)
    if not pack:
        found = _texts(vocabularies, batches)
        assert set(found) == set(zip(_SOURCES, _TARGETS, strict=True))
        assert sum(len(segmentations) > 3 for segmentations in found.values()) > 80


def test_one_side_alone_is_sampled_and_lengths_are_bounded(vocabularies):
    data = _config(source_subword_sampling=0.1).data
    dataset, _ = make_dataset(_EXAMPLES, vocabularies, data)
    usual, _ = make_dataset(_EXAMPLES, vocabularies, _config().data)
    assert isinstance(usual.examples, TokenizedPairs)
    keys = np.arange(91).astype(np.uint64)
    indices = np.array([*range(90), -1])
    pairs, plain = (these.examples.pairs(indices, keys) for these in (dataset, usual))
    np.testing.assert_array_equal(pairs.target.ids, plain.target.ids)
    source, target = dataset.examples.max_lengths()
    assert (pairs.source.lengths[:-1] <= source).all()
    assert (source <= 40).all()
    assert (pairs.source.lengths[-1], plain.source.lengths[-1]) == (0, 0)
    assert pairs.source.lengths.sum() > plain.source.lengths.sum()
    np.testing.assert_array_equal(target, usual.examples.max_lengths()[1])


def test_truncated_texts_and_evaluation_are_not_sampled(vocabularies):
    data = dataclasses.replace(_config(source_subword_sampling=0.1, overlength="truncate").data, max_source_length=6)
    dataset, counts = make_dataset(_EXAMPLES, vocabularies, data)
    usual, _ = make_dataset(_EXAMPLES, vocabularies, for_evaluation(data))
    assert counts.truncated == 90
    assert isinstance(usual.examples, TokenizedPairs)
    indices = np.arange(90)
    found, plain = (these.examples.pairs(indices, indices.astype(np.uint64)) for these in (dataset, usual))
    np.testing.assert_array_equal(found.source.ids, plain.source.ids)


def test_kinds_and_objectives_without_segmentations(vocabularies):
    with pytest.raises(
        InputError, match=r"config\.data\.source_subword_sampling=0\.5: .*span_corruption.* makes pairs"
    ):
        _config(source_subword_sampling=0.5, objective="span_corruption", share_vocabulary=True)
    data = _config(target_subword_sampling=0.5).data
    words = dataclasses.replace(data, target_vocabulary=dataclasses.replace(data.target_vocabulary, kind="word"))
    with pytest.raises(InputError, match=r"data\.target_subword_sampling=0\.5: only a SentencePiece vocabulary"):
        make_dataset(_EXAMPLES, build_vocabularies(words, *_EXAMPLES.pairs()), words)
