"""Linear maps. Parameters carry the names of their logical axes.

Layers compute in the dtype of their input, whatever dtype their parameters have; norms, softmax and logits are float32.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.spmd import with_logical_constraint
from jax.typing import DTypeLike
from jaxtyping import Array, Float

KERNEL_INIT = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")  # Glorot & Bengio (2010)


def constrain_activations(x: Float[Array, "b *n"], *axes: str | None) -> Float[Array, "b *n"]:
    """Shards the first axis of x as the batch and its last axes by their logical names; axes between are replicated.

    Without this XLA may shard the width of activations like that of the weights, and then devices exchange activations
    instead of weights. Without rules (``flax.linen.logical_axis_rules``) it does nothing.
    """
    return with_logical_constraint(x, ("batch", *[None] * (x.ndim - 1 - len(axes)), *axes))


def matmul_last(
    x: Float[Array, "*b i"], kernel: Float[Array, "i *o"], dtype: DTypeLike | None = None
) -> Float[Array, "..."]:
    """Maps the last axis of x by a kernel that may have several output axes: ``[*b, i], [i, *o] → [*b, *o]``.

    It is computed in the dtype of x; the result has ``dtype`` (default: that of x).

    It is one product of two matrices: with more axes, XLA on a CPU transposes the kernel at each step of decoding and
    in the gradient, which makes a training step of a small model 17 % slower.
    """
    matrix = kernel.reshape(kernel.shape[0], -1).astype(x.dtype)
    rows = jnp.matmul(x.reshape(-1, x.shape[-1]), matrix, preferred_element_type=dtype or x.dtype)
    return rows.reshape(*x.shape[:-1], *kernel.shape[1:])


def bias_param(
    module: nn.Module, name: str, wanted: bool, shape: tuple[int, ...], axes: tuple[str, ...]
) -> Float[Array, "..."] | float:
    """A bias parameter of a module, initialized to zeros; 0 where ``wanted`` is false."""
    init: Any = nn.with_logical_partitioning(nn.initializers.zeros, axes)
    return module.param(name, init, shape) if wanted else 0.0


def add_bias(y: Float[Array, "..."], bias: Float[Array, "..."] | float) -> Float[Array, "..."]:
    """``y + bias`` in the dtype of y."""
    return y + jnp.asarray(bias, y.dtype)


def soft_cap(x: Float[Array, "..."], cap: float) -> Float[Array, "..."]:
    """``cap · tanh(x / cap)``, which bounds magnitudes by ``cap`` (Gemma 2, 2024, section 2); 0: x unchanged."""
    return cap * jnp.tanh(x / cap) if cap else x


class Dense(nn.Module):
    """``nn.Dense`` in the dtype of its input, with logical axes.

    Attributes:
      axes: logical axes of the kernel, such as ``("embed", "mlp")``.
    """

    features: int
    axes: tuple[str, str]
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = KERNEL_INIT

    @nn.compact
    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        kernel_init: Any = nn.with_logical_partitioning(self.kernel_init, self.axes)
        bias_init: Any = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[1:])
        dense = nn.Dense(self.features, self.use_bias, dtype=x.dtype, kernel_init=kernel_init, bias_init=bias_init)
        nn.share_scope(self, dense)  # the parameters are this module's own
        return constrain_activations(dense(x), self.axes[1])
