"""What training makes small. Every loss returns (sum, weight): divide once, at the very end."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

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
