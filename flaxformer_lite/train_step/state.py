"""The training state, as a pytree."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Int

from flaxformer_lite.types import Tokens


class TrainState(NamedTuple):
    """All that an update changes; model, optimizer and settings are not part of it.

    Attributes:
      step: number of batches seen.
      params: the model's parameters.
      opt_state: the state of the optimizer.
      skipped: consecutive updates skipped because loss or gradient were not finite.
      skipped_total: skipped updates of the whole run.
      ema: the exponential moving average of the parameters; an empty tuple where the run keeps none.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    skipped: Int[Array, ""]
    skipped_total: Int[Array, ""]
    ema: Any = ()

    @property
    def eval_params(self) -> Any:
        """The parameters for evaluation and decoding: the moving average where there is one."""
        return self.ema or self.params


def init_params(model: nn.Module, seed: int, dtype: DTypeLike = jnp.float32) -> Any:
    """Initial parameters, a function of the seed, boxed with the names of their logical axes."""
    one = jnp.ones((1, 1), jnp.int32)
    tokens = Tokens(one, one, one - 1)
    params = model.init(jax.random.key(seed), tokens, tokens, train=False)["params"]
    return jax.tree.map(lambda x: x.astype(dtype), params)


def param_shapes(model: nn.Module, dtype: DTypeLike = jnp.float32) -> Any:
    """``jax.ShapeDtypeStruct`` of each parameter, unboxed; nothing is made."""
    return jax.eval_shape(lambda: nn.meta.unbox(init_params(model, 0, dtype)))


def init_state(
    model: nn.Module, optimizer: optax.GradientTransformation, seed: int, dtype: DTypeLike = jnp.float32
) -> TrainState:
    """The state before the first step, without a moving average."""
    params = init_params(model, seed, dtype)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, params, optimizer.init(in_float32(params)), zero, zero)


def with_ema(state: TrainState) -> TrainState:
    """The same state with a moving average in float32, whose initial value is the parameters."""
    copies = jax.tree.map(lambda x: jnp.array(x, jnp.float32, copy=True), state.params)  # or both would be donated
    return state._replace(ema=copies)


def in_float32(tree: Any) -> Any:
    """The same tree in float32, in which optimizers and averages compute whatever the parameters' dtype."""
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)
