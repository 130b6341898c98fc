"""The pure functions that devices run: one update, one evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from flaxformer_lite import losses
from flaxformer_lite.config import TrainConfig
from flaxformer_lite.train_state import TrainState
from flaxformer_lite.types import Batch


class Sums(NamedTuple):
    """Sums over target tokens; add those of several batches, then divide once.

    Attributes:
      loss: of the training loss, smoothing included.
      correct: tokens whose best guess is the label.
      weight: tokens.
    """

    loss: Float[Array, ""]
    correct: Float[Array, ""]
    weight: Float[Array, ""]


class Health(NamedTuple):
    """How an update went: the gradient's global norm before clipping, and whether it was applied."""

    gradient_norm: Float[Array, ""]
    applied: Float[Array, ""]


def make_loss(config: TrainConfig) -> Callable[..., losses.Loss]:
    """The loss that the config names, of (logits, labels, weights)."""
    loss = {"cross_entropy": losses.cross_entropy, "kl_divergence": losses.kl_divergence}[config.loss]
    return lambda logits, labels, weights: loss(logits, labels, weights, config.label_smoothing)


def evaluation_step(model: nn.Module, loss: Callable[..., losses.Loss], params: Any, batch: Batch) -> Sums:
    """Loss and hits of a batch under teacher forcing."""
    return _sums(model.apply({"params": params}, batch.source, batch.target_in, train=False), batch, loss)


def _sums(logits: Any, batch: Batch, loss: Callable[..., losses.Loss]) -> Sums:
    total, weight = loss(logits, batch.labels, batch.weights)
    of_labels = jnp.take_along_axis(logits, batch.labels[..., None], axis=-1)[..., 0]
    hits = of_labels >= logits.max(-1)  # no argmax: on a CPU, that is a sixteenth of a training step
    return Sums(total, (hits * batch.weights).sum(), weight)


class TrainStep(NamedTuple):
    """One update: ``state, sums, health = step(state, batch, key, reduce)``.

    A function of (state, batch, key) alone, written for any division of the batch among devices: losses are sums over
    tokens, ``reduce`` adds them over the devices, and only then is there a division. So padding and uneven shares
    change nothing.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    loss: Callable[..., losses.Loss]

    def __call__(
        self, state: TrainState, batch: Batch, key: Array, reduce: Callable[[Any], Any]
    ) -> tuple[TrainState, Sums, Health]:
        """Applies one update, or skips it where loss or gradient are not finite."""

        def summed_loss(params: Any) -> tuple[Array, Sums]:
            rngs = {"dropout": key}
            logits = self.model.apply({"params": params}, batch.source, batch.target_in, train=True, rngs=rngs)
            sums = _sums(logits, batch, self.loss)
            return sums.loss, sums

        gradients, sums = jax.grad(summed_loss, has_aux=True)(state.params)
        gradients, sums = reduce((gradients, sums))
        gradients = jax.tree.map(lambda g: g / jnp.maximum(sums.weight, 1), gradients)
        norm = optax.tree.norm(gradients)
        good = jnp.isfinite(sums.loss) & jnp.isfinite(norm)
        updates, opt_state = self.optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(good, new, old), (params, opt_state), (state.params, state.opt_state)
        )
        bad = (~good).astype(jnp.int32)
        new = TrainState(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            skipped=(state.skipped + 1) * bad,
            skipped_total=state.skipped_total + bad,
        )
        return new, sums, Health(norm, good.astype(jnp.float32))
