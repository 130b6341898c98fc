"""What training makes small. Every loss returns (sum, weight): divide once, at the very end."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.types import AnyArray

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

    The gradients are those of ``cross_entropy``; the value is 0 where the model says just what the labels say.
    """
    total, weight = cross_entropy(logits, labels, weights, smoothing)
    others = smoothing / logits.shape[-1]
    label = 1 - smoothing + others
    entropy = -jax.scipy.special.xlogy(label, label) - (logits.shape[-1] - 1) * jax.scipy.special.xlogy(others, others)
    return total - entropy * weight, weight


def z_loss(logits: Float[Array, "b t v"], weights: Float[AnyArray, "b t"]) -> Loss:
    """The square of log Z, Z being the sum that the softmax divides by (Chowdhery et al. 2022, section 5).

    Logits are free up to a constant, and rounding grows with it; this draws log Z to 0.
    """
    log_sum = jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1)
    return (jnp.square(log_sum) * weights).sum(), weights.sum()


def log_mean_probability(logits: Sequence[Float[Array, "b t v"]], temperature: float) -> Float[Array, "b t v"]:
    """Log of the mean of what several models find probable, each at this temperature."""
    each = [jax.nn.log_softmax(of_one.astype(jnp.float32) / temperature) for of_one in logits]
    return functools.reduce(jnp.logaddexp, each) - math.log(len(each))


def distillation(
    logits: Float[Array, "b t v"],
    teacher: Float[Array, "b t v"],
    weights: Float[AnyArray, "b t"],
    temperature: float,
) -> Loss:
    """KL divergence from a student to its teacher, times temperature², word by word (Kim & Rush 2016, equation 3).

    Both are taken at the temperature. The gradients of that shrink with its square, so it is multiplied in again
    (Hinton et al. 2015, section 2), and the share of the labels means the same at every temperature.

    Args:
      logits: the student's.
      teacher: log-probabilities of the teacher at this temperature; nothing flows back into them.
      weights: of the tokens.
      temperature: divides the logits.
    """
    teacher = jax.lax.stop_gradient(teacher)
    student = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
    each = (jnp.exp(teacher) * (teacher - student)).sum(-1)
    return temperature**2 * (each * weights).sum(), weights.sum()


def r_drop(one: Float[Array, "b t v"], other: Float[Array, "b t v"], weights: Float[AnyArray, "b t"]) -> Loss:
    """A quarter of the KL divergence from each of two passes to the other, both ways added (Liang et al. 2021).

    Their loss (equation 4) adds up the label losses of both passes and alpha / 2 times this sum. Ours is half of
    that: the mean of the label losses, and alpha times what this gives, so that alpha is theirs.
    """
    one, other = jax.nn.log_softmax(one.astype(jnp.float32)), jax.nn.log_softmax(other.astype(jnp.float32))
    both_ways = ((jnp.exp(one) - jnp.exp(other)) * (one - other)).sum(-1)
    return (both_ways * weights).sum() / 4, weights.sum()
