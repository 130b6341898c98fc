from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxformer_lite.train_step.losses import (
    cross_entropy,
    distillation,
    kl_divergence,
    log_mean_probability,
    r_drop_loss,
    z_loss,
)

_SIZES = (2, 3, 7)  # batch, length, vocabulary


@pytest.fixture
def logits() -> jax.Array:
    return jnp.asarray(3 * np.random.default_rng(0).standard_normal(_SIZES), jnp.float32)


@pytest.fixture
def labels() -> jax.Array:
    return jnp.array([[0, 6, 2], [5, 5, 1]])


@pytest.fixture
def weights() -> jax.Array:
    return jnp.array([[1.0, 1.0, 0.0], [0.5, 0.0, 2.0]])


def _smoothed(labels: jax.Array, smoothing: float) -> np.ndarray:
    return (1 - smoothing) * np.eye(7)[np.asarray(labels)] + smoothing / 7


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_with_smoothed_labels(logits, labels, weights, smoothing):
    total, weight = cross_entropy(logits, labels, weights, smoothing)
    probabilities = np.exp(np.float64(logits))
    probabilities /= probabilities.sum(-1, keepdims=True)
    each = -(_smoothed(labels, smoothing) * np.log(probabilities)).sum(-1)
    np.testing.assert_allclose(total, (each * weights).sum(), rtol=1e-5)
    assert weight == 4.5

    smoothed = optax.smooth_labels(jax.nn.one_hot(labels, 7), smoothing)
    theirs = optax.safe_softmax_cross_entropy(logits, smoothed)
    np.testing.assert_allclose(total, (theirs * weights).sum(), rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_kl_divergence_is_cross_entropy_minus_the_entropy_of_the_labels(logits, labels, weights, smoothing):
    total, weight = kl_divergence(logits, labels, weights, smoothing)
    q, p = _smoothed(labels, smoothing), np.exp(np.float64(jax.nn.log_softmax(logits)))
    each = np.where(q > 0, q * np.log(np.maximum(q, 1e-300) / p), 0).sum(-1)
    np.testing.assert_allclose(total, (each * weights).sum(), rtol=1e-5)
    assert weight == 4.5

    by_kl, by_entropy = (
        jax.grad(lambda x, loss=loss: loss(x, labels, weights, smoothing)[0])(logits)
        for loss in (kl_divergence, cross_entropy)
    )
    np.testing.assert_array_equal(by_kl, by_entropy)


def test_kl_divergence_is_zero_at_the_smoothed_labels(labels, weights):
    perfect = jnp.log(jnp.asarray(_smoothed(labels, 0.1), jnp.float32)) + 5  # logits are free up to a constant
    assert kl_divergence(perfect, labels, weights, 0.1)[0] == pytest.approx(0, abs=1e-5)
    gradient = jax.grad(lambda x: kl_divergence(x, labels, weights, 0.1)[0])(perfect)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    for seed in range(5):
        other = perfect + 0.1 * jax.random.normal(jax.random.key(seed), _SIZES)
        assert kl_divergence(other, labels, weights, 0.1)[0] > 1e-3


@pytest.mark.parametrize("loss", [cross_entropy, kl_divergence])
def test_tokens_with_weight_0_are_ignored(loss, logits, labels, weights):
    changed = jnp.where(weights[..., None] == 0, 50 - logits, logits)
    others = jnp.where(weights == 0, 3, labels)
    assert loss(changed, others, weights, 0.1) == loss(logits, labels, weights, 0.1)
    gradient = jax.grad(lambda x: loss(x, labels, weights, 0.1)[0])(logits)
    assert not gradient[weights == 0].any()
    assert loss(logits, labels, 0 * weights, 0.1) == (0, 0)


@pytest.mark.parametrize("loss", [cross_entropy, kl_divergence])
def test_sums_over_parts_of_a_batch_add_up(loss, logits, labels, weights):
    whole = loss(logits, labels, weights, 0.1)
    for parts in ([np.s_[:1], np.s_[1:]], [np.s_[:, :1], np.s_[:, 1:]]):
        sums = [loss(logits[part], labels[part], weights[part], 0.1) for part in parts]
        np.testing.assert_allclose(np.sum(sums, axis=0), whole, rtol=1e-6)


@pytest.mark.parametrize("loss", [cross_entropy, kl_divergence])
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_logits_give_finite_values_and_gradients(loss, size, labels, weights):
    logits = size * jnp.asarray(np.random.default_rng(1).choice([-1.0, 0.0, 1.0], _SIZES), jnp.float32)
    value, gradient = jax.value_and_grad(lambda x: loss(x, labels, weights, 0.1)[0])(logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_losses_of_half_precision_logits_are_computed_in_float32(labels, weights):
    logits = jnp.asarray(20 * np.random.default_rng(2).standard_normal(_SIZES), jnp.bfloat16)
    half, _ = cross_entropy(logits, labels, weights, 0.1)
    assert half.dtype == jnp.float32
    assert half == cross_entropy(logits.astype(jnp.float32), labels, weights, 0.1)[0]


# The same in float64 as the papers write it: probabilities, not their logs and differences.


def _softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    powers = np.exp(np.float64(logits) / temperature)
    return powers / powers.sum(-1, keepdims=True)


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * np.log(p / q)).sum(-1)


def _plain_z_loss(logits: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.log(np.exp(np.float64(logits)).sum(-1)) ** 2


def _plain_distillation(logits: np.ndarray, other: np.ndarray, temperature: float) -> np.ndarray:
    return temperature**2 * _kl(_softmax(other, temperature), _softmax(logits, temperature))


def _plain_r_drop(logits: np.ndarray, other: np.ndarray) -> np.ndarray:
    p, q = _softmax(logits), _softmax(other)
    return (_kl(p, q) + _kl(q, p)) / 4


def _distil(logits: jax.Array, other: jax.Array, weights: jax.Array, temperature: float) -> Any:
    return distillation(logits, log_mean_probability([other], temperature), weights, temperature)


# Each as (loss of (logits, other logits, weights), its float64 formula for each token).
_TERMS = {
    "z_loss": (lambda logits, other, weights: z_loss(logits, weights), _plain_z_loss),
    "distillation": (partial(_distil, temperature=1.0), partial(_plain_distillation, temperature=1.0)),
    "hot distillation": (partial(_distil, temperature=2.5), partial(_plain_distillation, temperature=2.5)),
    "r_drop_loss": (r_drop_loss, _plain_r_drop),
}


@pytest.fixture
def other() -> jax.Array:
    return jnp.asarray(2 * np.random.default_rng(3).standard_normal(_SIZES), jnp.float32)


@pytest.fixture(params=_TERMS)
def term(request) -> Any:
    return _TERMS[request.param]


def test_terms_equal_the_formulas_of_the_papers(term, logits, other, weights):
    loss, plain = term
    total, weight = loss(logits, other, weights)
    np.testing.assert_allclose(total, (plain(logits, other) * weights).sum(), rtol=1e-5)
    assert weight == 4.5


def test_gradients_of_terms_equal_numerical_gradients_of_the_formulas(term, logits, other, weights):
    loss, plain = term
    gradient = jax.grad(lambda x: loss(x, other, weights)[0])(logits)
    slopes, step = np.zeros(_SIZES), 1e-5
    for place in np.ndindex(_SIZES):
        nudge = np.zeros(_SIZES)
        nudge[place] = step
        up, down = (plain(np.float64(logits) + sign * nudge, other) * np.float64(weights) for sign in (1, -1))
        slopes[place] = (up.sum() - down.sum()) / (2 * step)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-5)


def test_r_drop_has_gradients_for_both_passes(logits, other, weights):
    one, two = jax.grad(lambda x, y: r_drop_loss(x, y, weights)[0], argnums=(0, 1))(logits, other)
    swapped = jax.grad(lambda x: r_drop_loss(x, logits, weights)[0])(other)
    np.testing.assert_allclose(two, swapped, rtol=1e-6)
    assert abs(one).max() > 0.01


def test_teachers_get_no_gradient(logits, other, weights):
    assert not jax.grad(lambda x: _distil(logits, x, weights, 2.0)[0])(other).any()


def test_terms_between_equal_logits_are_zero_with_gradient_zero(logits, weights):
    for loss in (partial(_distil, temperature=1.0), partial(_distil, temperature=3.0), r_drop_loss):
        total, gradient = jax.value_and_grad(lambda x, loss=loss: loss(x, logits, weights)[0])(logits)
        assert total == pytest.approx(0, abs=1e-5)
        np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_terms_ignore_weight_0_and_add_up_over_parts(term, logits, other, weights):
    loss, _ = term
    changed = jnp.where(weights[..., None] == 0, 50 - logits, logits)
    whole = loss(logits, other, weights)
    assert loss(changed, other, weights) == whole
    assert not jax.grad(lambda x: loss(x, other, weights)[0])(logits)[weights == 0].any()
    parts = [loss(logits[:, part], other[:, part], weights[:, part]) for part in (np.s_[:1], np.s_[1:])]
    np.testing.assert_allclose(np.sum(parts, axis=0), whole, rtol=1e-6)


def test_terms_of_half_precision_logits_are_float32(term, logits, other, weights):
    loss, _ = term
    halves = [x.astype(jnp.bfloat16) for x in (logits, other)]
    total, _ = loss(*halves, weights)
    assert total.dtype == jnp.float32
    assert total == loss(*(x.astype(jnp.float32) for x in halves), weights)[0]


@pytest.mark.parametrize("name", ["distillation", "hot distillation", "r_drop_loss"])
def test_divergences_of_extreme_logits_are_finite(name, weights):
    loss, _ = _TERMS[name]
    random = np.random.default_rng(1)
    one, two = (1e4 * jnp.asarray(random.choice([-1.0, 0.0, 1.0], _SIZES), jnp.float32) for _ in range(2))
    value, gradient = jax.value_and_grad(lambda x: loss(x, two, weights)[0])(one)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_several_teachers_give_their_mean_distribution(temperature, logits, other):
    third = logits[::-1] - other
    found = log_mean_probability([logits, other, third], temperature)
    expected = np.mean([_softmax(x, temperature) for x in (logits, other, third)], axis=0)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-4)
