"""The pure functions that run on devices: one update, one evaluation."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from flaxformer_lite.train_step.objective import Objective, Sums
from flaxformer_lite.train_step.optimizers import plateau_factor
from flaxformer_lite.train_step.state import TrainState, in_float32
from flaxformer_lite.types import Batch


class UpdateStats(NamedTuple):
    """Statistics of one update.

    Attributes:
      gradient_norm: the gradient's global norm before clipping, without frozen parameters.
      applied: 1 where the update was applied, 0 where it was skipped.
      plateau_factor: the factor of reduce-on-plateau on the scheduled learning rate; 1 under other schedules.
    """

    gradient_norm: Float[Array, ""]
    applied: Float[Array, ""]
    plateau_factor: Float[Array, ""]


def evaluation_step(objective: Objective, params: Any, batch: Batch) -> Sums:
    """Loss and hits of a batch under teacher forcing, without dropout."""
    logits: Any = objective.model.apply({"params": params}, batch.source, batch.target_in, train=False)
    return objective.token_loss(logits, batch)


class TrainStep(NamedTuple):
    """One update: ``state, (sums, stats) = step(teacher_params, state, batch, key, axis_name)``.

    A pure function of its arguments for any division of the batch among devices: losses are sums over tokens, which are
    added over the devices before the only division. So padding and uneven shards change nothing.

    Attributes:
      objective: the training objective.
      optimizer: the transformation of its gradients.
      ema_decay: of the moving average of the parameters; 0: there is none.
      grad_accum_steps: parts of a batch that are differentiated one after the other. Losses and gradients are those of
        the whole batch, since they are sums; only the dropout masks differ.
    """

    objective: Objective
    optimizer: optax.GradientTransformation
    ema_decay: float = 0.0
    grad_accum_steps: int = 1

    def __call__(
        self, teacher_params: Any, state: TrainState, batch: Batch, key: Array, axis_name: str | None = None
    ) -> tuple[TrainState, tuple[Sums, UpdateStats]]:
        """Applies one update, or skips it where loss or gradient are not finite.

        Args:
          teacher_params: parameters of the objective's teachers.
          state: before the update.
          batch: global arrays, or this device's rows.
          key: of the run; the step number is folded in here.
          axis_name: the mapped axis of devices that hold the other rows; None: ``batch`` has all rows.
        """
        key = jax.random.fold_in(key, state.step)
        if axis_name:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        gradients, sums = self._accumulate(teacher_params, state.params, batch, key)
        if axis_name:
            gradients, sums = jax.lax.psum((gradients, sums), axis_name)
        gradients = jax.tree.map(lambda g: g / jnp.maximum(sums.weight, 1), gradients)
        norm = optax.tree.norm(gradients)
        is_finite = jnp.isfinite(sums.objective) & jnp.isfinite(norm)
        optimizer = optax.with_extra_args_support(self.optimizer)
        loss = sums.loss / jnp.maximum(sums.weight, 1)
        updates, opt_state = optimizer.update(gradients, state.opt_state, in_float32(state.params), value=loss)
        params = optax.apply_updates(state.params, updates)
        params, opt_state, ema = jax.tree.map(
            lambda new, old: jnp.where(is_finite, new, old),
            (params, opt_state, self._update_ema(state, params)),
            (state.params, state.opt_state, state.ema),
        )
        skipped = (~is_finite).astype(jnp.int32)
        new = TrainState(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            skipped=(state.skipped + 1) * skipped,
            skipped_total=state.skipped_total + skipped,
            ema=ema,
        )
        return new, (sums, UpdateStats(norm, is_finite.astype(jnp.float32), plateau_factor(opt_state)))

    def _accumulate(self, teacher_params: Any, params: Any, batch: Batch, key: Array) -> tuple[Any, Sums]:
        """The gradient of the objective and the sums, added over the parts of the batch."""

        def loss_fn(params: Any, rows: Batch, key: Array) -> tuple[Array, Sums]:
            sums = self.objective.loss_fn(params, teacher_params, rows, key)
            return sums.objective, sums

        def differentiate(params: Any, rows: Batch, key: Array) -> tuple[Any, Sums]:
            gradients, sums = jax.grad(loss_fn, has_aux=True)(params, rows, key)
            return in_float32(gradients), sums  # float32, because they are added over parts and devices

        if self.grad_accum_steps == 1:
            return differentiate(params, batch, key)

        def add(total: Any, part: Any) -> tuple[Any, None]:
            rows, number = part
            more = differentiate(params, rows, jax.random.fold_in(key, number))
            return jax.tree.map(jnp.add, total, more), None

        rows, numbers = _split_rows(batch, self.grad_accum_steps), jnp.arange(self.grad_accum_steps)
        zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(differentiate, params, batch, key))
        return jax.lax.scan(add, zeros, (rows, numbers))[0]

    def _update_ema(self, state: TrainState, params: Any) -> Any:
        """The moving average after update n (from 0), with a decay of at most (1 + n) / (10 + n).

        So at first it averages over about the last ninth of the run, and the initial parameters are soon forgotten:
        after ten updates their weight is 1 / 92,378.
        """
        if not self.ema_decay:
            return state.ema
        applied = state.step - state.skipped_total
        decay = jnp.minimum(self.ema_decay, (1 + applied) / (10 + applied))
        return optax.incremental_update(params, state.ema, 1 - decay)


def _split_rows(batch: Batch, parts: int) -> Batch:
    """Part i has the rows i, i + parts, …, so that each device holds as many rows of each part and none is moved."""
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
