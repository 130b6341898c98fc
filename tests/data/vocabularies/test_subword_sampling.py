"""Subword regularization: texts stay the same, segmentations are a function of the key, distributions are right."""

import math
from collections import Counter

import numpy as np
import pytest

from flaxformer_lite.data.stateless_random import make_keys
from flaxformer_lite.data.vocabularies.build import build_vocabulary
from flaxformer_lite.data.vocabularies.subword_sampling import make_sampler
from flaxformer_lite.errors import InputError
from tests.data.vocabularies.vocabulary_configs import vocabulary_config

_KEY = "config.data.source_vocabulary"
_TEXTS = [f"newest lowest widest number {i:o} and {i:x}" for i in range(500)]
_ROOM = 10**6


@pytest.fixture(scope="module")
def vocabularies():
    config = {"size": 330, "num_sentinels": 2}
    return {
        kind: build_vocabulary(vocabulary_config("sentencepiece", model_type=kind, **config), _TEXTS, _KEY)
        for kind in ("unigram", "bpe")
    }


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_texts_stay_the_same_and_segmentations_are_a_function_of_the_key(vocabularies, kind):
    vocabulary = vocabularies[kind]
    one, other = (make_sampler(vocabulary, 0.3, _KEY) for _ in range(2))
    texts = [*_TEXTS[:40], "a" * 300, "", " ", "  a  b ", "é 🎉x", "a▁b", "see <extra_id_0> there"]
    keys = make_keys(3, np.arange(len(texts)))
    sampled = [one.sample(text, key, _ROOM) for text, key in zip(texts, keys, strict=True)]
    assert [vocabulary.decode(ids) for ids in sampled] == texts
    assert sampled != [vocabulary.encode(text) for text in texts]
    order = np.random.default_rng(0).permutation(len(texts))  # what was sampled before changes nothing
    for i in order:
        assert other.sample(texts[i], keys[i], _ROOM) == sampled[i]
    assert len({tuple(one.sample(texts[7], key, _ROOM)) for key in keys}) > 10


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_there_are_no_more_tokens_than_there_is_room_for(vocabularies, kind):
    vocabulary = vocabularies[kind]
    sampler = make_sampler(vocabulary, 0.1, _KEY)
    for text, key in zip(_TEXTS[:60], make_keys(5, np.arange(60)), strict=True):
        usual = vocabulary.encode(text)
        assert sampler.sample(text, key, 0) == usual or len(sampler.sample(text, key, 0)) <= len(usual)
        assert len(sampler.sample(text, key, 2)) <= len(usual) + 2


def test_a_unigram_model_samples_powers_of_its_probabilities(vocabularies):
    base = vocabularies["unigram"].base
    sampler = make_sampler(base, 0.5, _KEY)
    counts = Counter(tuple(sampler.sample("newest", key, _ROOM)) for key in make_keys(1, np.arange(4_000)))
    weights = {ids: math.exp(0.5 * sum(map(base.score, ids))) for ids in base.nbest_of_word(" newest", 16)}
    assert set(counts) <= set(weights)
    for ids, weight in weights.items():
        share = weight / sum(weights.values())
        assert counts[ids] / 4_000 == pytest.approx(share, abs=4 * math.sqrt(share / 4_000))


def test_dropout_of_merges_ends_at_the_usual_merges_and_at_characters(vocabularies):
    vocabulary = vocabularies["bpe"]
    for text, key in zip(_TEXTS[:30], make_keys(2, np.arange(30)), strict=True):
        assert make_sampler(vocabulary, 1e-9, _KEY).sample(text, key, _ROOM) == vocabulary.encode(text)
        characters = make_sampler(vocabulary, 1.0, _KEY).sample(text, key, _ROOM)
        assert [vocabulary.token(i) for i in characters] == list("▁" + text.replace(" ", "▁"))


def test_other_vocabularies_have_one_segmentation():
    vocabulary = build_vocabulary(vocabulary_config("word"), _TEXTS, _KEY)
    with pytest.raises(InputError, match=r"data\.source_subword_sampling=0\.2: only a SentencePiece vocabulary has"):
        make_sampler(vocabulary, 0.2, "config.data.source_subword_sampling")
