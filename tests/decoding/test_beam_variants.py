"""Each system's beam search against a plain Python one, and against the list of all targets."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.decoding.base import query
from flaxformer_lite.decoding.beam import BeamSearch
from flaxformer_lite.decoding.beam_variants import Fairseq, Google, HuggingFace, Marian
from tests.decoding import plain_search
from tests.decoding.fake_models import SPECIAL, VOCABULARY, Recurrent, search
from tests.decoding.plain_search import assert_finds

# Of each convention: (alpha) → the convention, and its plain twin.
CONVENTIONS = {
    "google": (Google, plain_search.google),
    "hf": (HuggingFace, partial(plain_search.hugging_face, early_stopping=False)),
    "hf true": (partial(HuggingFace, early_stopping=True), partial(plain_search.hugging_face, early_stopping=True)),
    "hf never": (
        partial(HuggingFace, early_stopping="never"),
        partial(plain_search.hugging_face, early_stopping="never"),
    ),
    "fairseq": (Fairseq, plain_search.fairseq),
    "marian": (Marian, plain_search.marian),
}
each_convention = pytest.mark.parametrize("name", CONVENTIONS)


@each_convention
@pytest.mark.parametrize(("beam_size", "alpha"), [(1, 0.6), (2, 0.0), (3, 1.0), (4, 2.5)])
def test_equals_the_plain_one(name, beam_size, alpha):
    convention, plain = CONVENTIONS[name]
    ends_often = tuple(1.5 * (i == SPECIAL.end) for i in range(VOCABULARY))
    model = Recurrent.random(seed=7, bias=ends_often)
    limits = np.random.default_rng(0).integers(3, 9, size=24)  # from 3 on there are more targets than beams
    sources = model.sources(seed=4, rows=24)
    found = search(model, sources, limits, 8, BeamSearch(beam_size, convention(alpha)))
    for row, limit in enumerate(limits):
        assert_finds(found, row, plain(model, np.asarray(sources)[row], int(limit), beam_size, alpha))


def test_the_conventions_differ():
    """Or the test above would tell nothing apart."""
    model = Recurrent.random(seed=7, bias=tuple(1.5 * (i == SPECIAL.end) for i in range(VOCABULARY)))
    sources = np.asarray(model.sources(seed=4, rows=24))
    results = {
        name: [tuple(ids for _, ids in plain(model, source, 7, 3, 1.0)) for source in sources]
        for name, (_, plain) in CONVENTIONS.items()
    }
    assert len({tuple(result) for result in results.values()}) == len(CONVENTIONS)


def everything(model, source, limit, score, ends):
    """Every target of at most ``limit`` tokens, best first; where not all must end, those that the limit cuts too."""
    words = [i for i in plain_search.WORDS if i != SPECIAL.end]
    targets = [(*start, SPECIAL.end) for length in range(limit) for start in product(words, repeat=length)]
    if not ends:
        targets += product(words, repeat=limit)
    log_probs = [sum(model.log_probs(source, ids[:i])[token] for i, token in enumerate(ids)) for ids in targets]
    return sorted(((score(p, len(ids)), ids) for p, ids in zip(log_probs, targets, strict=True)), reverse=True)


@pytest.mark.parametrize("name", ["google", "hf", "hf never", "fairseq", "marian"])  # "hf true" stops before that
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_a_beam_of_full_width_is_exhaustive_search(name, alpha):
    convention = CONVENTIONS[name][0](alpha)
    model, limits = Recurrent.random(seed=11), [4, 1, 3, 2]
    sources = model.sources(seed=5, rows=4)
    width = 1 + 3 + 9 + 27 + 81 * (not convention.forces_end)
    found = search(model, sources, limits, 4, BeamSearch(width, convention))
    for row, limit in enumerate(limits):
        score = plain_search.by_power
        if name == "google":
            score = lambda p, length, alpha: p / ((5 + length) / 6) ** alpha  # noqa: E731
        expected = everything(
            model, np.asarray(sources)[row], limit, partial(score, alpha=alpha), convention.forces_end
        )
        assert_finds(found, row, expected)


def test_the_score_of_google_is_that_of_wu_et_al():
    lengths = jnp.array([1, 7, 13])
    np.testing.assert_allclose(Google(1.0).score(-6 * jnp.ones(3), lengths), [-6, -3, -2])
    np.testing.assert_allclose(Google(0.5).score(-6 * jnp.ones(2), jnp.array([1, 19])), [-6, -3])
    np.testing.assert_array_equal(Google(0.0).score(-6 * jnp.ones(3), lengths), [-6, -6, -6])


@pytest.mark.parametrize("beam_variant", [HuggingFace, Fairseq, Marian])
def test_the_score_of_the_others_divides_by_a_power_of_the_length(convention):
    np.testing.assert_allclose(convention(1.0).score(-6 * jnp.ones(3), jnp.array([1, 2, 3])), [-6, -3, -2])
    np.testing.assert_allclose(convention(0.5).score(-6 * jnp.ones(2), jnp.array([1, 4])), [-6, -3])
    np.testing.assert_array_equal(convention(0.0).score(-6 * jnp.ones(2), jnp.array([1, 4])), [-6, -6])


def count_steps(convention, model, rows, limits):
    steps = []

    def counted_step(token, cache, encoded):
        jax.debug.callback(lambda: steps.append(1))
        return model.step(token, cache, encoded)

    BeamSearch(2, convention)(
        counted_step, model.start(rows, 2), model.sources(4, rows), query(jnp.asarray(limits)), 50, SPECIAL
    )
    jax.effects_barrier()
    return len(steps)


@pytest.mark.parametrize("name", [name for name in CONVENTIONS if name != "hf never"])
def test_stops_as_soon_as_no_beam_can_win(name):
    model = Recurrent.random(seed=7, bias=tuple(9.0 * (i == SPECIAL.end) for i in range(VOCABULARY)))
    assert count_steps(CONVENTIONS[name][0](0.6), model, 3, [50, 40, 30]) < 10


def test_never_goes_on_as_far_as_a_longer_one_could_be_better():
    model = Recurrent.random(seed=7, bias=tuple(6.0 * (i == SPECIAL.end) for i in range(VOCABULARY)))
    soon, guessing, never = (
        count_steps(HuggingFace(1.0, value), model, 3, [20] * 3) for value in (True, False, "never")
    )
    assert soon <= guessing < never == 20


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"alpha=-0\.1 must be at least 0"):
        Google(-0.1)
