import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxformer_lite.losses import cross_entropy, kl_divergence

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
def test_cross_entropy_is_that_to_the_smoothed_labels(logits, labels, weights, smoothing):
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
def test_kl_divergence_is_cross_entropy_less_the_labels_entropy(logits, labels, weights, smoothing):
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


def test_kl_divergence_is_least_and_zero_where_the_model_says_the_smoothed_labels(labels, weights):
    perfect = jnp.log(jnp.asarray(_smoothed(labels, 0.1), jnp.float32)) + 5  # logits are free up to a constant
    assert kl_divergence(perfect, labels, weights, 0.1)[0] == pytest.approx(0, abs=1e-5)
    gradient = jax.grad(lambda x: kl_divergence(x, labels, weights, 0.1)[0])(perfect)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    for seed in range(5):
        other = perfect + 0.1 * jax.random.normal(jax.random.key(seed), _SIZES)
        assert kl_divergence(other, labels, weights, 0.1)[0] > 1e-3


@pytest.mark.parametrize("loss", [cross_entropy, kl_divergence])
def test_weight_0_is_as_if_the_token_were_not_there(loss, logits, labels, weights):
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


def test_half_precision_logits_lose_nothing_more(labels, weights):
    logits = jnp.asarray(20 * np.random.default_rng(2).standard_normal(_SIZES), jnp.bfloat16)
    half, _ = cross_entropy(logits, labels, weights, 0.1)
    assert half.dtype == jnp.float32
    assert half == cross_entropy(logits.astype(jnp.float32), labels, weights, 0.1)[0]
