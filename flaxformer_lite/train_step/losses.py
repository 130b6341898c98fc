"""Losses. Each returns (sum, weight), so that sums are added over batches and devices and divided once."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.decoding_types import AnyArray

Loss = tuple[Float[Array, ""], Float[Array, ""]]


def cross_entropy(
    logits: Float[Array, "b t v"], labels: Int[Array, "b t"], weights: Float[Array, "b t"], smoothing: float
) -> Loss:
    """Cross-entropy to labels smoothed over the vocabulary, in nats (Szegedy et al. 2016, section 7).

    The target distribution is ``q = (1 - smoothing) * onehot(label) + smoothing / v``.
    """
    logits = logits.astype(jnp.float32)
    log_sum = jax.nn.logsumexp(logits, axis=-1)
    of_label = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    losses = log_sum - (1 - smoothing) * of_label - smoothing * logits.mean(-1)
    return (losses * weights).sum(), weights.sum()


def kl_divergence(
    logits: Float[Array, "b t v"], labels: Int[Array, "b t"], weights: Float[Array, "b t"], smoothing: float
) -> Loss:
    """KL divergence from the model to the same smoothed labels: cross-entropy less their entropy.

    The gradients are those of ``cross_entropy``; the value is 0 where the model's distribution equals the labels'.
    """
    total, weight = cross_entropy(logits, labels, weights, smoothing)
    others = smoothing / logits.shape[-1]
    label = 1 - smoothing + others
    entropy = -jax.scipy.special.xlogy(label, label) - (logits.shape[-1] - 1) * jax.scipy.special.xlogy(others, others)
    return total - entropy * weight, weight


def z_loss(logits: Float[Array, "b t v"], weights: Float[AnyArray, "b t"]) -> Loss:
    """The square of log Z, where Z is the normalizer of the softmax (Chowdhery et al. 2022, section 5).

    Softmax ignores a constant added to all logits, whose rounding errors grow with it; this loss keeps log Z near 0.
    """
    log_sum = jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1)
    return (jnp.square(log_sum) * weights).sum(), weights.sum()


def log_mean_probability(logits: Sequence[Float[Array, "b t v"]], temperature: float) -> Float[Array, "b t v"]:
    """Log of the mean distribution of several models, each at this temperature."""
    each = [jax.nn.log_softmax(of_one.astype(jnp.float32) / temperature) for of_one in logits]
    return functools.reduce(jnp.logaddexp, each) - math.log(len(each))


def distillation(
    logits: Float[Array, "b t v"],
    teacher: Float[Array, "b t v"],
    weights: Float[AnyArray, "b t"],
    temperature: float,
) -> Loss:
    """Word-level knowledge distillation (Kim & Rush 2016, equation 3): KL(teacher ‖ student) · temperature².

    Both distributions are at the temperature. Its gradients shrink with the square of the temperature; the factor
    compensates for that (Hinton et al. 2015, section 2), so the weight of the label loss means the same at each.
    ``teacher`` has log-probabilities at this temperature, which are constants for differentiation.
    """
    teacher = jax.lax.stop_gradient(teacher)
    student = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
    each = (jnp.exp(teacher) * (teacher - student)).sum(-1)
    return temperature**2 * (each * weights).sum(), weights.sum()


def r_drop_loss(one: Float[Array, "b t v"], other: Float[Array, "b t v"], weights: Float[AnyArray, "b t"]) -> Loss:
    """A quarter of the symmetric KL divergence between two passes, both directions added (Liang et al. 2021).

    Their loss (equation 4) is the sum of the label losses of both passes and alpha / 2 times both divergences. Half of
    it is the mean of the label losses and alpha times this loss, so alpha has the value that they give.
    """
    one, other = jax.nn.log_softmax(one.astype(jnp.float32)), jax.nn.log_softmax(other.astype(jnp.float32))
    both_ways = ((jnp.exp(one) - jnp.exp(other)) * (one - other)).sum(-1)
    return (both_ways * weights).sum() / 4, weights.sum()
