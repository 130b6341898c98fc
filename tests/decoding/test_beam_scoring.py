"""Each system's beam search against plain Python, and against the list of all targets."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.decoding.base import plain_request
from flaxformer_lite.decoding.beam import BeamSearch
from flaxformer_lite.decoding.beam_scoring import fairseq, google, hugging_face, marian
from tests.decoding import plain_search
from tests.decoding.fake_models import SPECIAL, VOCABULARY, Recurrent, search
from tests.decoding.plain_search import assert_finds

# name: (constructor, which takes alpha; reference in plain Python)
VARIANTS = {
    "google": (google, plain_search.google),
    "hf": (hugging_face, partial(plain_search.hugging_face, early_stopping=False)),
    "hf true": (partial(hugging_face, early_stopping=True), partial(plain_search.hugging_face, early_stopping=True)),
    "hf never": (
        partial(hugging_face, early_stopping="never"),
        partial(plain_search.hugging_face, early_stopping="never"),
    ),
    "fairseq": (fairseq, plain_search.fairseq),
    "marian": (marian, plain_search.marian),
}
each_variant = pytest.mark.parametrize("name", VARIANTS)


@each_variant
@pytest.mark.parametrize(("beam_size", "alpha"), [(1, 0.6), (2, 0.0), (3, 1.0), (4, 2.5)])
def test_equals_the_reference_in_plain_python(name, beam_size, alpha):
    variant, plain = VARIANTS[name]
    ends_often = tuple(1.5 * (i == SPECIAL.end) for i in range(VOCABULARY))
    model = Recurrent.random(seed=7, bias=ends_often)
    limits = np.random.default_rng(0).integers(3, 9, size=24)  # from 3 on there are more targets than beams
    sources = model.sources(seed=4, rows=24)
    found = search(model, sources, limits, 8, BeamSearch(beam_size, variant(alpha)))
    for row, limit in enumerate(limits):
        assert_finds(found, row, plain(model, np.asarray(sources)[row], int(limit), beam_size, alpha))


def test_the_variants_differ():
    """If they were equal, the test above could not distinguish them."""
    model = Recurrent.random(seed=7, bias=tuple(1.5 * (i == SPECIAL.end) for i in range(VOCABULARY)))
    sources = np.asarray(model.sources(seed=4, rows=24))
    results = {
        name: [tuple(ids for _, ids in plain(model, source, 7, 3, 1.0)) for source in sources]
        for name, (_, plain) in VARIANTS.items()
    }
    assert len({tuple(result) for result in results.values()}) == len(VARIANTS)


def all_targets(model, source, limit, score, ends):
    """Every target of at most ``limit`` tokens, best first; unless all must end, also those without an end token."""
    tokens = [i for i in plain_search.TOKENS if i != SPECIAL.end]
    targets = [(*start, SPECIAL.end) for length in range(limit) for start in product(tokens, repeat=length)]
    if not ends:
        targets += product(tokens, repeat=limit)
    log_probs = [sum(model.log_probs(source, ids[:i])[token] for i, token in enumerate(ids)) for ids in targets]
    return sorted(((score(p, len(ids)), ids) for p, ids in zip(log_probs, targets, strict=True)), reverse=True)


@pytest.mark.parametrize("name", ["google", "hf", "hf never", "fairseq", "marian"])  # "hf true" stops earlier
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_a_beam_of_all_hypotheses_equals_exhaustive_search(name, alpha):
    variant = VARIANTS[name][0](alpha)
    model, limits = Recurrent.random(seed=11), [4, 1, 3, 2]
    sources = model.sources(seed=5, rows=4)
    width = 1 + 3 + 9 + 27 + 81 * (not variant.forces_end)
    found = search(model, sources, limits, 4, BeamSearch(width, variant))
    for row, limit in enumerate(limits):
        score = plain_search.by_power
        if name == "google":
            score = lambda p, length, alpha: p / ((5 + length) / 6) ** alpha  # noqa: E731
        expected = all_targets(model, np.asarray(sources)[row], limit, partial(score, alpha=alpha), variant.forces_end)
        assert_finds(found, row, expected)


def test_google_score_equals_wu_et_al():
    lengths = jnp.array([1, 7, 13])
    np.testing.assert_allclose(google(1.0).score(-6 * jnp.ones(3), lengths), [-6, -3, -2])
    np.testing.assert_allclose(google(0.5).score(-6 * jnp.ones(2), jnp.array([1, 19])), [-6, -3])
    np.testing.assert_array_equal(google(0.0).score(-6 * jnp.ones(3), lengths), [-6, -6, -6])


@pytest.mark.parametrize("variant", [hugging_face, fairseq, marian])
def test_other_scores_divide_by_a_power_of_the_length(variant):
    np.testing.assert_allclose(variant(1.0).score(-6 * jnp.ones(3), jnp.array([1, 2, 3])), [-6, -3, -2])
    np.testing.assert_allclose(variant(0.5).score(-6 * jnp.ones(2), jnp.array([1, 4])), [-6, -3])
    np.testing.assert_array_equal(variant(0.0).score(-6 * jnp.ones(2), jnp.array([1, 4])), [-6, -6])


def count_steps(variant, model, rows, limits):
    steps = []

    def counted_step(token, cache, encoded):
        jax.debug.callback(lambda: steps.append(1))
        return model.step(token, cache, encoded)

    BeamSearch(2, variant)(
        counted_step, model.start(rows, 2), model.sources(4, rows), plain_request(jnp.asarray(limits)), 50, SPECIAL
    )
    jax.effects_barrier()
    return len(steps)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "hf never"])
def test_stops_as_soon_as_no_beam_can_win(name):
    model = Recurrent.random(seed=7, bias=tuple(9.0 * (i == SPECIAL.end) for i in range(VOCABULARY)))
    assert count_steps(VARIANTS[name][0](0.6), model, 3, [50, 40, 30]) < 10


def test_early_stopping_never_searches_while_a_longer_target_could_be_better():
    model = Recurrent.random(seed=7, bias=tuple(6.0 * (i == SPECIAL.end) for i in range(VOCABULARY)))
    true, false, never = (count_steps(hugging_face(1.0, value), model, 3, [20] * 3) for value in (True, False, "never"))
    assert true <= false < never == 20


def test_rejects_a_negative_alpha():
    with pytest.raises(ValueError, match=r"alpha=-0\.1 must be at least 0"):
        google(-0.1)
