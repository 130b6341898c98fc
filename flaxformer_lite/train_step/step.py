"""The pure functions that devices run: one update, one evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from flaxformer_lite.train_step.objective import Criterion, Objective, Sums
from flaxformer_lite.train_step.optimizers import rate_factor
from flaxformer_lite.train_step.state import TrainState, in_float32
from flaxformer_lite.types import Batch


class UpdateStats(NamedTuple):
    """How an update went.

    Attributes:
      gradient_norm: the gradient's global norm before clipping, without frozen parameters.
      applied: whether it was applied, 1 or 0.
      rate_factor: what reduce-on-plateau has left of the scheduled learning rate; 1 under other schedules.
    """

    gradient_norm: Float[Array, ""]
    applied: Float[Array, ""]
    rate_factor: Float[Array, ""]


def evaluation_step(model: nn.Module, criterion: Criterion, params: Any, batch: Batch) -> Sums:
    """Loss and hits of a batch under teacher forcing."""
    logits: Any = model.apply({"params": params}, batch.source, batch.target_in, train=False)
    return criterion(logits, batch, ())


class TrainStep(NamedTuple):
    """One update: ``state, (sums, health) = step(teachers, state, batch, key, reduce)``.

    A function of these alone, written for any division of the batch among devices: losses are sums over tokens,
    ``reduce`` adds them over the devices, and only then is there a division. So padding and uneven shares change
    nothing.

    Attributes:
      objective: what is made small.
      optimizer: how parameters follow its gradients.
      ema_decay: of the moving average of the parameters; 0: there is none.
      parts: into how many the rows of a batch are divided, of which one at a time is computed. Being sums, losses and
        gradients are those of the whole batch; only dropout draws other masks.
    """

    objective: Objective
    optimizer: optax.GradientTransformation
    ema_decay: float = 0.0
    parts: int = 1

    def __call__(
        self, teachers: Any, state: TrainState, batch: Batch, key: Array, reduce: Callable[[Any], Any]
    ) -> tuple[TrainState, tuple[Sums, UpdateStats]]:
        """Applies one update, or skips it where loss or gradient are not finite."""
        gradients, sums = reduce(self._sums(teachers, state.params, batch, key))
        gradients = jax.tree.map(lambda g: g / jnp.maximum(sums.weight, 1), gradients)
        norm = optax.tree.norm(gradients)
        good = jnp.isfinite(sums.objective) & jnp.isfinite(norm)
        optimizer = optax.with_extra_args_support(self.optimizer)
        loss = sums.loss / jnp.maximum(sums.weight, 1)
        updates, opt_state = optimizer.update(gradients, state.opt_state, in_float32(state.params), value=loss)
        params = optax.apply_updates(state.params, updates)
        params, opt_state, ema = jax.tree.map(
            lambda new, old: jnp.where(good, new, old),
            (params, opt_state, self._averaged(state, params)),
            (state.params, state.opt_state, state.ema),
        )
        bad = (~good).astype(jnp.int32)
        new = TrainState(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            skipped=(state.skipped + 1) * bad,
            skipped_total=state.skipped_total + bad,
            ema=ema,
        )
        return new, (sums, UpdateStats(norm, good.astype(jnp.float32), rate_factor(opt_state)))

    def _sums(self, teachers: Any, params: Any, batch: Batch, key: Array) -> tuple[Any, Sums]:
        """The gradient of the objective, and all sums."""

        def minimized(params: Any, rows: Batch, key: Array) -> tuple[Array, Sums]:
            sums = self.objective(params, teachers, rows, key)
            return sums.objective, sums

        def differentiate(params: Any, rows: Batch, key: Array) -> tuple[Any, Sums]:
            gradients, sums = jax.grad(minimized, has_aux=True)(params, rows, key)
            return in_float32(gradients), sums  # which are added up, over parts and over devices

        if self.parts == 1:
            return differentiate(params, batch, key)

        def add(so_far: Any, part: Any) -> tuple[Any, None]:
            rows, number = part
            more = differentiate(params, rows, jax.random.fold_in(key, number))
            return jax.tree.map(jnp.add, so_far, more), None

        rows, numbers = _divide(batch, self.parts), jnp.arange(self.parts)
        nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(differentiate, params, batch, key))
        return jax.lax.scan(add, nothing, (rows, numbers))[0]

    def _averaged(self, state: TrainState, params: Any) -> Any:
        """The moving average after update n (from 0), which decays by no more than (1 + n) / (10 + n).

        So at first it reaches back over the last ninth of the run, and the initial parameters are soon forgotten: after
        ten updates they are a 92,378th of it.
        """
        if not self.ema_decay:
            return state.ema
        applied = state.step - state.skipped_total
        decay = jnp.minimum(self.ema_decay, (1 + applied) / (10 + applied))
        return optax.incremental_update(params, state.ema, 1 - decay)


def _divide(batch: Batch, parts: int) -> Batch:
    """Part i has rows i, i + parts, …, so that every device has as many rows of each part and none must move."""
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
