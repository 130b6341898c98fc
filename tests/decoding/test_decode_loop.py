"""Greedy search and ancestral sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.decoding.base import NEG_INF, DecodeRequest
from flaxformer_lite.decoding.decode_loop import Greedy, Sample
from flaxformer_lite.decoding.logits_processors import Temperature, TopK, TopP
from tests.decoding.fake_models import SPECIAL, VOCABULARY, Recurrent, Table, search

END = SPECIAL.end


@pytest.fixture
def model():
    return Recurrent.random(seed=3)


def test_chooses_the_most_likely_token_until_end_or_limit(model):
    sources, limits = model.sources(seed=1, rows=12), [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9]
    found = search(model, sources, limits, max_length=9, method=Greedy())
    for row, limit in enumerate(limits):
        ids, score = [], 0.0
        while len(ids) < limit and SPECIAL.end not in ids:
            gains = model.log_probs(np.asarray(sources)[row], tuple(ids))
            gains[[SPECIAL.pad, SPECIAL.begin]] = -np.inf
            ids.append(int(np.argmax(gains)))
            score += gains[ids[-1]]
        np.testing.assert_array_equal(found.ids[row, 0], ids + [SPECIAL.pad] * (9 - len(ids)))
        np.testing.assert_allclose(found.scores[row, 0], score, rtol=1e-5)
        assert found.lengths[row, 0] == len(ids)
    ended = np.any(found.ids == SPECIAL.end, axis=-1)
    assert 0 < ended.sum() < len(limits), "both reasons to stop should occur"


def test_a_row_does_not_depend_on_the_batch_or_the_size_of_the_output(model):
    sources, limits = model.sources(seed=2, rows=5), np.array([7, 3, 5, 7, 6])
    together = search(model, sources, limits, max_length=7, method=Greedy())
    order = np.array([3, 1, 4, 0])
    some = search(model, sources[order], limits[order], max_length=11, method=Greedy())
    np.testing.assert_array_equal(some.ids[:, :, :7], together.ids[order])
    np.testing.assert_array_equal(some.ids[:, :, 7:], SPECIAL.pad)
    np.testing.assert_allclose(some.scores, together.scores[order], rtol=1e-6)


def test_greedy_never_generates_pad_or_begin():
    model = Recurrent.random(seed=0, bias=(50.0, 0.0, 50.0, 0.0, 0.0, 0.0))
    found = search(model, model.sources(seed=1, rows=3), [4, 4, 4], max_length=4, method=Greedy())
    for row in range(3):
        generated = found.ids[row, 0, : found.lengths[row, 0]]
        assert len(generated) > 0
        assert not set(generated) & {SPECIAL.pad, SPECIAL.begin}


@pytest.mark.parametrize("begin", [SPECIAL.end, SPECIAL.pad])
def test_begin_may_be_the_end_or_the_pad_token(begin):
    model = Recurrent.random(seed=0, bias=tuple(20.0 * (i == SPECIAL.end) for i in range(VOCABULARY)))
    found = search(model, model.sources(seed=1, rows=2), [4, 3], 4, Greedy(), SPECIAL._replace(begin=begin))
    np.testing.assert_array_equal(found.ids[:, 0], [[SPECIAL.end, 0, 0, 0]] * 2)


def test_rows_with_limit_0_are_skipped(model):
    found = search(model, model.sources(seed=1, rows=3), [0, 4, 0], max_length=4, method=Greedy())
    np.testing.assert_array_equal(found.lengths[[0, 2]], 0)
    np.testing.assert_array_equal(found.scores[[0, 2]], 0)
    assert found.lengths[1, 0] > 0


def request(limits, seeds):
    b = len(limits)
    return DecodeRequest(
        jnp.asarray(limits),
        jnp.zeros((b, 0), jnp.int32),
        jnp.asarray(seeds, jnp.uint32),
        jnp.zeros(b, jnp.int32),
        jnp.zeros(b, bool),
    )


def chi_square(counts, probs):
    """Pearson's statistic, and its value at p = 0.0001 (Wilson & Hilferty 1931)."""
    expected = counts.sum() * probs[probs > 0]
    assert not counts[probs == 0].any()
    statistic = np.sum((counts[probs > 0] - expected) ** 2 / expected)
    freedom = len(expected) - 1
    return statistic, freedom * (1 - 2 / (9 * freedom) + 3.719 * np.sqrt(2 / (9 * freedom))) ** 3


def whole_distribution(model, source, limit):
    """Every target, truncated at ``limit`` tokens, with its probability."""
    found, live = {}, {(): 1.0}
    for _ in range(limit):
        longer = {}
        for ids, prob in live.items():
            gains = np.exp(model.log_probs(source, ids))
            gains[[SPECIAL.pad, SPECIAL.begin]] = 0
            for token, gain in enumerate(gains / gains.sum()):
                if gain > 0:
                    (found if token == END else longer)[(*ids, token)] = prob * gain
        live = longer
    return found | live


def test_frequencies_are_probabilities():
    """Whole targets from many rows and samples, so that steps, rows and samples are also independent."""
    model, limit = Recurrent.random(seed=2), 3
    source = np.asarray(model.sources(seed=9, rows=1))
    rows, samples = 100, 60
    sources, asked = jnp.asarray(np.repeat(source, rows, axis=0)), request([limit] * rows, np.arange(rows))
    found = search(model, sources, asked, limit, Sample(samples))
    targets = whole_distribution(model, source[0], limit)
    probs = np.array(list(targets.values()))
    assert probs.sum() == pytest.approx(1)
    pairs = zip(found.ids.reshape(-1, limit), found.lengths.flatten(), strict=True)
    samples_found = [tuple(ids[:length]) for ids, length in pairs]
    counts = np.array([samples_found.count(ids) for ids in targets])
    assert counts.sum() == rows * samples
    common = probs * counts.sum() > 5  # the usual condition of the chi-square test
    counts = np.append(counts[common], counts[~common].sum())
    probs = np.append(probs[common], probs[~common].sum())
    statistic, limit_of_chance = chi_square(counts, probs)
    assert statistic < limit_of_chance
    assert chi_square(counts, np.roll(probs, 1))[0] > 10 * limit_of_chance  # the test has power


@pytest.mark.parametrize(
    ("processors", "expected"),
    [
        ((Temperature(0.5),), [0.04, 0.16, 0.01, 0.25]),
        ((TopK(2),), [0, 0.4, 0, 0.5]),
        ((TopP(0.7),), [0, 0.4, 0, 0.5]),
        ((Temperature(2.0), TopK(3)), [0.2**0.5, 0.4**0.5, 0, 0.5**0.5]),
    ],
)
def test_frequencies_equal_the_processed_distribution(processors, expected):
    probs = (0, 0.2, 0, 0.4, 0.1, 0.5)  # of end, 3, 4 and 5; need not add up to 1
    table = Table(probabilities=(probs,), children=((0,) * VOCABULARY,))
    rows, samples = 50, 80
    found = search(table, jnp.zeros((rows, 1)), request([1] * rows, np.arange(rows)), 1, Sample(samples, processors))
    counts = np.array([(found.ids == token).sum() for token in (1, 3, 4, 5)])
    statistic, limit_of_chance = chi_square(counts, np.array(expected) / np.sum(expected))
    assert statistic < limit_of_chance
    own = np.log(np.array(probs) / np.sum(probs), where=np.array(probs) > 0, out=np.full(6, -np.inf))
    np.testing.assert_allclose(found.scores, own[found.ids[:, :, 0]], rtol=1e-5)


def test_scores_are_raw_log_probabilities_in_descending_order():
    model, limits = Recurrent.random(seed=2), [6, 4, 5]
    sources = model.sources(seed=9, rows=3)
    found = search(model, sources, request(limits, [1, 2, 3]), 6, Sample(9, (Temperature(0.7), TopK(2))))
    assert (np.diff(found.scores, axis=1) <= 0).all()
    for row in range(3):
        for ids, length, score in zip(found.ids[row], found.lengths[row], found.scores[row], strict=True):
            ids = [int(i) for i in ids[:length]]
            assert length == limits[row] or ids[-1] == END
            gains = [model.log_probs(np.asarray(sources)[row], tuple(ids[:i]))[ids[i]] for i in range(length)]
            np.testing.assert_allclose(score, sum(gains), rtol=1e-5)


def rows_of(found):
    """The samples of each row, sorted."""
    return [sorted(map(tuple, row)) for row in found.ids]


def test_samples_of_a_row_depend_on_its_seed_alone():
    model, limits, seeds = Recurrent.random(seed=2), np.array([6, 9, 4, 7, 2]), np.array([7, 7, 9, 2**32 - 1, 0])
    sources, method = model.sources(seed=9, rows=5), Sample(4)
    together = rows_of(search(model, sources, request(limits, seeds), 9, method))
    order = np.array([3, 1, 4, 2, 0, 3, 3])
    asked = request(limits[order] * [1, 1, 1, 1, 1, 0, 0], seeds[order])
    some = search(model, sources[order], asked, 13, method)
    np.testing.assert_array_equal(some.lengths[5:], 0)
    assert [[ids[:9] for ids in row] for row in rows_of(some)[:5]] == [together[i] for i in order[:5]]
    same_sources = jnp.repeat(sources[1:2], 3, axis=0)
    drawn = rows_of(search(model, same_sources, request([9] * 3, [5, 6, 5]), 9, method))
    assert drawn[0] == drawn[2] != drawn[1]


def test_the_first_samples_of_many_equal_those_of_few():
    model, asked = Recurrent.random(seed=2), request([6, 9, 4], [1, 2, 3])
    sources = model.sources(seed=9, rows=3)
    few, many = (rows_of(search(model, sources, asked, 9, Sample(samples))) for samples in (3, 8))
    for some, more in zip(few, many, strict=True):
        for ids in some:
            more.remove(ids)
        assert len(more) == 5


def test_samples_over_eight_devices_equal_one_device():
    model, asked = Recurrent.random(seed=2), request(np.arange(16) % 5 + 3, np.arange(16))
    sources = model.sources(seed=9, rows=16)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = search(model, *jax.device_put((sources, asked), sharding), 7, Sample(3))
    single = search(model, sources, asked, 7, Sample(3))
    np.testing.assert_array_equal(sharded.ids, single.ids)
    np.testing.assert_allclose(sharded.scores, single.scores, rtol=1e-5)


def test_samples_never_contain_pad_or_begin():
    model = Recurrent.random(seed=0, bias=(50.0, 0.0, 50.0, 0.0, 0.0, 0.0))
    found = search(model, model.sources(seed=1, rows=3), request([4, 4, 4], [0, 1, 2]), 4, Sample(5, (TopK(1),)))
    assert (found.lengths > 0).all()
    assert not np.isin(found.ids[:, :, 0], [SPECIAL.pad, SPECIAL.begin]).any()
    assert (found.scores > NEG_INF / 2).all()


def test_rejects_zero_samples():
    with pytest.raises(ValueError, match="num_samples=0 must be at least 1"):
        Sample(0)
