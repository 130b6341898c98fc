import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.decoding.beam import BeamSearch
from flaxformer_lite.decoding.beam_scoring import google, hugging_face
from flaxformer_lite.decoding.decode_loop import Greedy
from tests.decoding.fake_models import SPECIAL, VOCABULARY, Recurrent, Table, search
from tests.decoding.plain_search import assert_finds, diverse, diverse_hugging_face


def test_one_beam_without_penalty_is_greedy_search():
    model, limits = Recurrent.random(seed=3), np.full(32, 7)
    sources = model.sources(seed=1, rows=32)
    beam = search(model, sources, limits, 7, BeamSearch(1, google(0.0)))
    greedy = search(model, sources, limits, 7, Greedy())
    ended = np.any(greedy.ids == SPECIAL.end, axis=(1, 2))
    assert ended.sum() > 10
    np.testing.assert_array_equal(beam.ids[ended], greedy.ids[ended])
    np.testing.assert_allclose(beam.scores[ended], greedy.scores[ended], rtol=1e-5)


def test_finds_the_better_path_that_greedy_search_misses():
    end, a, b = SPECIAL.end, 4, 5
    table = Table(
        probabilities=(
            (0, 0.1, 0, 0, 0.5, 0.4),  # at first, a is more likely than b ...
            (0, 0.4, 0, 0, 0.3, 0.3),  # ... but no token after a is as likely
            (0, 0.9, 0, 0, 0.1, 0.0),  # ... as the end token after b
        ),
        children=((0, 0, 0, 0, 1, 2),) * 3,
    )
    sources, limits = jnp.zeros((2, 1)), [3, 3]
    greedy = search(table, sources, limits, 3, Greedy())
    beam = search(table, sources, limits, 3, BeamSearch(2, google(0.0)))
    for row in range(2):
        assert_finds(greedy, row, [(np.log(0.5 * 0.4), (a, end))])
        assert_finds(beam, row, [(np.log(0.4 * 0.9), (b, end)), (np.log(0.5 * 0.4), (a, end))])


def test_hypotheses_are_sorted_distinct_and_complete():
    model, limits = Recurrent.random(seed=2), np.array([6, 9, 4, 7, 5])
    found = search(model, model.sources(seed=9, rows=5), limits, 9, BeamSearch(4, google(0.8)))
    assert np.all(np.diff(found.scores, axis=1) <= 0)
    for row in range(5):
        assert len({tuple(ids) for ids in found.ids[row]}) == 4
        for ids, length in zip(found.ids[row], found.lengths[row], strict=True):
            assert 1 <= length <= limits[row]
            assert ids[length - 1] == SPECIAL.end
            assert not set(ids[: length - 1]) & {SPECIAL.pad, SPECIAL.begin, SPECIAL.end}
            np.testing.assert_array_equal(ids[length:], SPECIAL.pad)


def test_a_row_does_not_depend_on_the_batch_or_the_size_of_the_output():
    model, limits = Recurrent.random(seed=2), np.array([6, 9, 4, 7, 2])
    sources, method = model.sources(seed=9, rows=5), BeamSearch(3, google(0.6))
    together = search(model, sources, limits, 9, method)
    order = np.array([3, 1, 4, 2, 0, 3, 3])
    some = search(
        model, sources[order], limits[order] * [1, 1, 1, 1, 1, 0, 0], 13, method
    )  # the last two are filler rows
    np.testing.assert_array_equal(some.ids[:5, :, :9], together.ids[order[:5]])
    np.testing.assert_array_equal(some.ids[:5, :, 9:], SPECIAL.pad)
    np.testing.assert_array_equal(some.lengths[5:], 0)
    np.testing.assert_allclose(some.scores[:5], together.scores[order[:5]], rtol=1e-6)
    for row in range(5):
        alone = search(model, sources[row : row + 1], limits[row : row + 1], 9, method)
        np.testing.assert_array_equal(alone.ids[0], together.ids[row])


@pytest.mark.parametrize("method", [Greedy(), BeamSearch(3, google(0.6))])
def test_sharded_over_eight_devices_equals_one_device(method):
    model, limits = Recurrent.random(seed=2), np.arange(16) % 5 + 3
    sources = model.sources(seed=9, rows=16)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = search(model, jax.device_put(sources, sharding), jax.device_put(limits, sharding), 7, method)
    single = search(model, sources, limits, 7, method)
    np.testing.assert_array_equal(sharded.ids, single.ids)
    np.testing.assert_allclose(sharded.scores, single.scores, rtol=1e-5)


def test_limit_1_allows_the_end_token_only():
    model = Recurrent.random(seed=2)
    sources = model.sources(seed=9, rows=3)
    found = search(model, sources, [1, 1, 1], 5, BeamSearch(2, google(0.6)))
    for row in range(3):
        assert_finds(found, row, [(model.log_probs(np.asarray(sources)[row], ())[SPECIAL.end], (SPECIAL.end,))])


@pytest.mark.parametrize("begin", [SPECIAL.begin, SPECIAL.end, SPECIAL.pad])
def test_can_end_at_once_whichever_token_begins(begin):
    model = Recurrent.random(seed=0, bias=tuple(20.0 * (i == SPECIAL.end) for i in range(VOCABULARY)))
    found = search(
        model, model.sources(seed=1, rows=2), [4, 3], 4, BeamSearch(2, google(0.0)), SPECIAL._replace(begin=begin)
    )
    np.testing.assert_array_equal(found.ids[:, 0], [[SPECIAL.end, 0, 0, 0]] * 2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_scores_are_summed_in_float32_for_any_dtype_of_logits(dtype):
    model = Recurrent.random(seed=2)

    class Rounded(Recurrent):
        def step(self, token, cache, encoded):
            logits, cache = model.step(token, cache, encoded)
            return logits.astype(dtype), cache

    rounded = Rounded(model.inputs, model.transition, model.outputs)
    sources = model.sources(seed=9, rows=3)
    found = search(rounded, sources, [6, 5, 4], 6, BeamSearch(2, google(0.6)))
    assert found.scores.dtype == np.float32
    for row in range(3):
        ids = tuple(int(i) for i in found.ids[row, 0, : found.lengths[row, 0]])
        exact = sum(model.log_probs(np.asarray(sources)[row], ids[:i])[token] for i, token in enumerate(ids))
        np.testing.assert_allclose(found.scores[row, 0] * ((5 + len(ids)) / 6) ** 0.6, exact, rtol=0.02)


def test_tokens_of_probability_0_give_no_nan():
    table = Table(probabilities=((0, 0.0, 0, 0, 1.0, 0), (0, 1.0, 0, 0, 0, 0)), children=((0, 0, 0, 0, 1, 0),) * 2)
    found = search(table, jnp.zeros((2, 1)), [4, 5], 5, BeamSearch(3, google(0.6)))
    for row in range(2):
        assert_finds(found, row, [(0.0, (4, SPECIAL.end))])


@pytest.mark.parametrize(("beam_size", "groups"), [(0, 1), (2, 0), (4, 3)])
def test_rejects_groups_that_do_not_divide_the_beams(beam_size, groups):
    with pytest.raises(ValueError, match=rf"num_groups={groups} must divide beam_size={beam_size}"):
        BeamSearch(beam_size, google(0.6), num_groups=groups)


@pytest.mark.parametrize(
    ("beam_size", "groups", "penalty", "alpha"), [(2, 2, 0.7, 0.0), (4, 2, 0.5, 1.0), (6, 3, 1.3, 0.6)]
)
def test_diverse_beam_search_equals_the_reference_in_plain_python(beam_size, groups, penalty, alpha):
    model = Recurrent.random(seed=7)
    limits = np.random.default_rng(1).integers(3, 8, size=16)
    sources = model.sources(seed=4, rows=16)
    method = BeamSearch(beam_size, google(alpha), num_groups=groups, diversity_penalty=penalty)
    found = search(model, sources, limits, 7, method)
    for row, limit in enumerate(limits):
        expected = diverse(model, np.asarray(sources)[row], int(limit), beam_size, alpha, groups, penalty)
        assert_finds(found, row, expected)


@pytest.mark.parametrize("penalty", [0.5, 2.0])
def test_groups_count_tokens_that_earlier_groups_chose_at_the_limit(penalty):
    """With ``hf``, beams that reach the limit finish without an end token, in the step in which later groups choose."""
    model = Recurrent.random(seed=5, bias=tuple(0.8 * (i == SPECIAL.end) for i in range(VOCABULARY)))
    limits = np.random.default_rng(5).integers(1, 8, size=48)
    sources = model.sources(seed=4, rows=48)
    method = BeamSearch(4, hugging_face(0.0, "never"), num_groups=2, diversity_penalty=penalty)
    found = search(model, sources, limits, 8, method)
    for row, limit in enumerate(limits):
        expected = diverse_hugging_face(model, np.asarray(sources)[row], int(limit), 4, groups=2, penalty=penalty)
        assert_finds(found, row, expected)


def test_groups_without_a_penalty_repeat_the_same_search():
    model, limits = Recurrent.random(seed=7), [5, 7, 6]
    sources = model.sources(seed=4, rows=3)
    one = search(model, sources, limits, 7, BeamSearch(2, google(0.6)))
    three = search(model, sources, limits, 7, BeamSearch(6, google(0.6), num_groups=3))
    np.testing.assert_array_equal(three.ids, np.repeat(one.ids, 3, axis=1))


def test_a_higher_penalty_gives_more_distinct_first_tokens():
    model, limits = Recurrent.random(seed=7), np.full(16, 7)
    sources = model.sources(seed=4, rows=16)
    firsts = []
    for penalty in (0.0, 1.0, 100.0):
        method = BeamSearch(3, google(0.6), num_groups=3, diversity_penalty=penalty)
        ids = search(model, sources, limits, 7, method).ids
        firsts.append(sum(len(set(ids[row, :, 0])) for row in range(16)))
    assert firsts[0] == 16
    assert firsts[0] < firsts[1] < firsts[2]
