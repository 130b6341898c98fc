"""Logits processors against NumPy or plain Python, and inside every search."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.decoding.base import NEG_INF, DecodeRequest, History
from flaxformer_lite.decoding.beam import BeamSearch
from flaxformer_lite.decoding.beam_scoring import google
from flaxformer_lite.decoding.decode_loop import Greedy, Sample
from flaxformer_lite.decoding.logits_processors import (
    MinLength,
    MinP,
    NoRepeatNgram,
    RepetitionPenalty,
    SuppressTokens,
    Temperature,
    TopK,
    TopP,
)
from tests.decoding.fake_models import SPECIAL, Recurrent, search

END = SPECIAL.end
EMPTY = History(jnp.zeros((2, 3, 4), jnp.int32), jnp.array(0))
SEARCHES = {
    "greedy": lambda *processors: Greedy(processors),
    "beam": lambda *processors: BeamSearch(3, google(0.6), processors),
    "diverse beam": lambda *processors: BeamSearch(4, google(0.6), processors, num_groups=2, diversity_penalty=0.5),
    "sample": lambda *processors: Sample(3, processors),
}
each_search = pytest.mark.parametrize("make", SEARCHES.values(), ids=SEARCHES)


def log_probs(v=9, seed=0):
    return jax.nn.log_softmax(2 * jax.random.normal(jax.random.key(seed), (2, 3, v)))


def processed(processor, history=EMPTY, v=9):
    """The processed and the original distribution, as NumPy arrays."""
    before = log_probs(v)
    return np.asarray(jax.nn.softmax(processor(before, history))), np.asarray(jnp.exp(before))


def kept(probs, keep):
    """``probs`` truncated to ``keep`` and renormalized."""
    probs = np.where(keep, probs, 0)
    return probs / probs.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature(temperature):
    found, probs = processed(Temperature(temperature))
    powers = probs ** (1 / temperature)
    np.testing.assert_allclose(found, powers / powers.sum(-1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("v", [9, 1500])  # below and above the size from which top_k searches blocks
@pytest.mark.parametrize("k", [1, 4, 20])
def test_top_k(k, v):
    found, probs = processed(TopK(k), v=v)
    ranks = np.argsort(np.argsort(-probs))
    np.testing.assert_allclose(found, kept(probs, ranks < k), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999])
def test_top_p(p):
    found, probs = processed(TopP(p))
    order = np.argsort(-probs)
    sorted_probs = np.take_along_axis(probs, order, -1)
    count = 1 + np.sum(np.cumsum(sorted_probs, -1) < p, axis=-1, keepdims=True)
    keep = np.argsort(order) < count
    np.testing.assert_allclose(found, kept(probs, keep), rtol=1e-5)
    assert len(set(count.flatten())) > 1 or p == 0.01


def test_top_p_after_other_processors():
    before = Temperature(2.0)(TopK(4)(log_probs(), EMPTY), EMPTY)
    probs = np.asarray(jax.nn.softmax(before))
    found = np.asarray(jax.nn.softmax(TopP(0.7)(before, EMPTY)))
    sorted_probs = -np.sort(-probs)
    count = 1 + np.sum(np.cumsum(sorted_probs, -1) < 0.7, axis=-1)
    np.testing.assert_array_equal((found > 0).sum(-1), count)


@pytest.mark.parametrize("p", [0.05, 0.4, 1.0])
def test_min_p(p):
    found, probs = processed(MinP(p))
    np.testing.assert_allclose(found, kept(probs, probs >= p * probs.max(-1, keepdims=True)), rtol=1e-5)


HISTORY = History(
    ids=jnp.array([[[4, 5, 4, 5, 4, 0], [3, 3, 3, 3, 3, 0]], [[7, 6, 5, 4, 7, 0], [3, 4, 5, 3, 4, 0]]]),
    length=jnp.array(5),
)


def repeating_tokens(n, ids):
    """Tokens that would repeat an n-gram."""
    ngrams = {tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)}
    return {gram[-1] for gram in ngrams if list(gram[:-1]) == ids[len(ids) - n + 1 :]}


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_no_repeat_ngram(n, length):
    before = log_probs()[:, :2]
    history = History(HISTORY.ids * (jnp.arange(6) < length), jnp.array(length))
    found = np.asarray(NoRepeatNgram(n)(before, history))
    for b in range(2):
        for m in range(2):
            banned = repeating_tokens(n, history.ids[b, m, :length].tolist())
            assert set(np.flatnonzero(found[b, m] == NEG_INF)) == banned
    np.testing.assert_array_equal(found[found > NEG_INF], np.asarray(before)[found > NEG_INF])


def test_repeating_tokens():
    assert repeating_tokens(2, [4, 5, 4]) == {5}
    assert repeating_tokens(3, [4, 5, 4, 5, 4]) == {5}
    assert repeating_tokens(3, [4, 5, 4, 3, 4]) == set()


def test_repetition_penalty():
    before = log_probs()[:, :2]
    found = np.asarray(RepetitionPenalty(1.5)(before, HISTORY))
    for b in range(2):
        for m in range(2):
            repeated = np.isin(np.arange(9), HISTORY.ids[b, m, :5])
            np.testing.assert_allclose(found[b, m], np.where(repeated, 1.5, 1) * before[b, m], rtol=1e-6)
    assert np.asarray(RepetitionPenalty(1.5)(before, EMPTY._replace(ids=EMPTY.ids[:, :2])) == before).all()


@each_search
def test_min_length_and_suppress_tokens(make):
    model, limits = Recurrent.random(seed=2), np.full(9, 7)
    sources = model.sources(seed=9, rows=9)
    plain = search(model, sources, limits, 7, make())
    assert (plain.lengths < 4).any()
    assert (plain.ids == 5).any()
    found = search(model, sources, limits, 7, make(MinLength(3, (END,)), SuppressTokens((5,))))
    assert not (found.ids == 5).any()
    assert (found.lengths >= 4).all()
    assert (found.lengths < 7).any()


@each_search
def test_no_bigram_is_repeated(make):
    model, limits = Recurrent.random(seed=2), np.full(9, 9)
    found = search(model, model.sources(seed=9, rows=9), limits, 9, make(NoRepeatNgram(2), MinLength(5, (END,))))
    for ids, length in zip(found.ids.reshape(-1, 9), found.lengths.flatten(), strict=True):
        generated = [*ids[: length - 1]] + ([ids[length - 1]] if ids[length - 1] != END else [])
        pairs = list(pairwise(generated))
        assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize(
    "last", [(), (Temperature(2.0),), (RepetitionPenalty(0.5),)], ids=["alone", "temperature", "repetition"]
)
@each_search
def test_a_target_ends_where_all_tokens_are_forbidden(make, last):
    """Each of three tokens may be used once, and the end is forbidden before the fifth."""
    model, limits = Recurrent.random(seed=2), np.full(4, 8)
    found = search(model, model.sources(seed=9, rows=4), limits, 8, make(NoRepeatNgram(1), MinLength(5, (END,)), *last))
    np.testing.assert_array_equal(found.lengths, 4)
    np.testing.assert_array_equal(found.ids[:, :, 3], END)
    assert (found.scores > NEG_INF / 2).all()


def forced(limits, prefix):
    b = len(limits)
    return DecodeRequest(
        jnp.asarray(limits),
        jnp.asarray(prefix, jnp.int32),
        jnp.arange(b, dtype=jnp.uint32),
        jnp.zeros(b, jnp.int32),
        jnp.zeros(b, bool),
    )


@each_search
def test_prefixes_override_the_processors(make):
    model = Recurrent.random(seed=2)
    prefix = [[4, 4, 4], [5, 0, 0], [0, 0, 0], [3, 5, 0]]
    asked = forced([7, 6, 5, 4], prefix)
    sources = model.sources(seed=9, rows=4)
    found = search(model, sources, asked, 9, make(NoRepeatNgram(1), SuppressTokens((4,)), MinLength(2, (END,))))
    for row, ids in enumerate(prefix):
        ids = [i for i in ids if i]
        generated = found.ids[row, found.lengths[row] > 0]  # there may be fewer hypotheses than beams
        assert len(generated) > 0
        np.testing.assert_array_equal(generated[:, : len(ids)], np.tile(ids, (len(generated), 1)))
    assert not (found.ids[1:] == 4).any()


@each_search
def test_padding_after_a_prefix_forces_nothing(make):
    """Also where the prefix is empty."""
    model, limits = Recurrent.random(seed=2), [7, 6, 5]
    sources = model.sources(seed=9, rows=3)
    none = search(model, sources, forced(limits, np.zeros((3, 0))), 7, make())
    blank = search(model, sources, forced(limits, np.zeros((3, 4))), 7, make())
    jax.tree.map(np.testing.assert_array_equal, blank, none)


@pytest.mark.parametrize("length", [1, 3, 6])
def test_a_prefix_of_the_greedy_target_gives_that_target(length):
    model, limits = Recurrent.random(seed=3), np.full(12, 9)
    sources = model.sources(seed=1, rows=12)
    full = search(model, sources, limits, 9, Greedy())
    begun = full.ids[:, 0, :length] * (full.ids[:, 0, :length] != END)
    found = search(model, sources, forced(limits, begun), 9, Greedy())
    long_enough = full.lengths[:, 0] > length
    assert long_enough.sum() > 2
    np.testing.assert_array_equal(found.ids[long_enough], full.ids[long_enough])
    np.testing.assert_allclose(found.scores[long_enough], full.scores[long_enough], rtol=1e-6)


def test_beam_search_finds_the_best_targets_with_a_prefix():
    model, limits = Recurrent.random(seed=11), [5, 4]
    sources = model.sources(seed=5, rows=2)
    every_target = search(model, sources, limits, 5, BeamSearch(1 + 3 + 9 + 27 + 81, google(0.6)))
    found = search(model, sources, forced(limits, [[4, 3], [5, 0]]), 5, BeamSearch(40, google(0.6)))
    for row, begin in enumerate([(4, 3), (5,)]):
        so = (every_target.ids[row, :, : len(begin)] == begin).all(-1)
        count = min(so.sum(), 40)
        np.testing.assert_array_equal(found.ids[row, :count], every_target.ids[row, so][:count])
        np.testing.assert_allclose(found.scores[row, :count], every_target.scores[row, so][:count], rtol=1e-5)
        np.testing.assert_array_equal(found.lengths[row, count:], 0)
