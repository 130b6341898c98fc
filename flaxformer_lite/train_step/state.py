"""All that training changes, as data. Model, optimizer and settings stand outside."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Int, UInt32

from flaxformer_lite.types import Tokens

Seed = int | UInt32[Array, ""]


class TrainState(NamedTuple):
    """What a checkpoint holds of the model.

    Attributes:
      step: number of batches seen.
      params: the model's parameters.
      opt_state: the optimizer's moments.
      skipped: updates skipped in a row because loss or gradient were not finite.
      skipped_total: the same over the whole run.
      ema: the exponential moving average of the parameters; an empty tuple where the run keeps none.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    skipped: Int[Array, ""]
    skipped_total: Int[Array, ""]
    ema: Any = ()

    @property
    def served(self) -> Any:
        """The parameters that are evaluated and decoded with: their moving average where there is one."""
        return self.ema or self.params


def init_params(model: nn.Module, seed: Seed, dtype: DTypeLike = jnp.float32) -> Any:
    """New parameters, a function of the seed. They still wear the names of their logical axes."""
    one = jnp.ones((1, 1), jnp.int32)
    tokens = Tokens(one, one, one - 1)
    params = model.init(jax.random.key(seed), tokens, tokens, train=False)["params"]
    return jax.tree.map(lambda x: x.astype(dtype), params)


def param_shapes(model: nn.Module, dtype: DTypeLike = jnp.float32) -> Any:
    """What ``init_params`` would make, as ``jax.ShapeDtypeStruct`` without names of axes: nothing is made."""
    return jax.eval_shape(lambda: nn.meta.unbox(init_params(model, 0, dtype)))


def init_state(
    model: nn.Module, optimizer: optax.GradientTransformation, seed: Seed, dtype: DTypeLike = jnp.float32
) -> TrainState:
    """The state before the first step."""
    params = init_params(model, seed, dtype)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, params, optimizer.init(in_float32(params)), zero, zero)


def with_average(state: TrainState) -> TrainState:
    """The same state with a moving average in float32, which begins at the parameters."""
    copies = jax.tree.map(lambda x: jnp.array(x, jnp.float32, copy=True), state.params)  # or both would be donated
    return state._replace(ema=copies)


def in_float32(tree: Any) -> Any:
    """The same numbers in the dtype that optimizers and averages take them in, whatever weights are kept in."""
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)
