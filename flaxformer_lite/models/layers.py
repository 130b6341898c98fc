"""The parts that every sublayer is made of. Parameters carry the names of their logical axes.

A layer computes in the dtype of what it reads, whatever its parameters are kept in; norms, softmax and logits are in
float32.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_constraint
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from flaxformer_lite import hashing
from flaxformer_lite.types import AnyArray

KERNEL = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")  # Glorot & Bengio (2010)


def named(initializer: nn.initializers.Initializer, *axes: str) -> Any:
    """An initialiser whose parameter carries the names of its logical axes until ``nn.meta.unbox`` takes them off."""
    return nn.with_logical_partitioning(initializer, axes)


def placed(x: Float[Array, "b *n"], *axes: str | None) -> Float[Array, "b *n"]:
    """The same array, its rows divided over devices as a batch's are, and its last axes as their logical names say.

    Left to itself, XLA may divide the width of what a layer computes as it finds the width of the weights divided,
    and then devices tell one another all of it instead of the weights. Where nobody has given names a meaning
    (``flax.linen.logical_axis_rules``), nothing happens.
    """
    return divided(x, "batch", *[None] * (x.ndim - 1 - len(axes)), *axes)


def divided(x: Float[Array, "..."], *axes: str | None) -> Float[Array, "..."]:
    """The same array, divided over devices as the logical names of all its axes say."""
    return with_logical_constraint(x, axes)


def product(
    x: Float[Array, "*b i"], kernel: Float[Array, "i *o"], dtype: DTypeLike | None = None
) -> Float[Array, "..."]:
    """Maps the last axis of x by a kernel, which may have several axes of output: ``[*b, i], [i, *o] → [*b, *o]``.

    It is computed in the dtype of x; the result has ``dtype``, that of x unless given.

    As one product of two matrices. Given more axes, XLA on a CPU transposes the kernel at each step of decoding, and
    the gradient where the kernel's is computed: a training step of a small model takes a sixth longer.
    """
    matrix = kernel.reshape(kernel.shape[0], -1).astype(x.dtype)
    rows = jnp.matmul(x.reshape(-1, x.shape[-1]), matrix, preferred_element_type=dtype or x.dtype)
    return rows.reshape(*x.shape[:-1], *kernel.shape[1:])


class Dropout(nn.Module):
    """Sets a share of the elements to 0 and scales the others up (Srivastava et al. 2014).

    Which ones is a hash of (key, index of the element): the murmur3 finaliser (Appleby 2011), once for each half of
    the key. On a CPU, JAX's own generator takes 40 % of a small model's training step and most of its compile time,
    this one next to nothing; and a mask, being a function of indices, is the same on any number of devices.

    Attributes:
      rate: the share.
      one_mask_over: axes along which all elements share one mask.
    """

    rate: float
    one_mask_over: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Float[Array, "*b"], train: bool) -> Float[Array, "*b"]:
        if not train or self.rate == 0:
            return x
        key = jax.random.key_data(self.make_rng("dropout")).astype(jnp.uint32)
        shape = tuple(1 if axis in self.one_mask_over else size for axis, size in enumerate(x.shape))
        bits = hashing.mix(hashing.mix(hashing.index(shape) ^ key[0]) ^ key[-1])
        keep = bits >= jnp.uint32(round(self.rate * 2**32))
        return jnp.where(keep, x / (1 - self.rate), 0)


class Dense(nn.Module):
    """``x W + b`` over the last axis of x.

    Attributes:
      features: width of the result.
      axes: logical axes of W, such as ``("embed", "mlp")``.
      dtype: of the result; that of x unless given.
    """

    features: int
    axes: tuple[str, str]
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        kernel = self.param("kernel", named(KERNEL, *self.axes), (x.shape[-1], self.features))
        bias = self.param("bias", named(nn.initializers.zeros, self.axes[1]), (self.features,))
        y = product(x, kernel, self.dtype)
        return placed(y + bias.astype(y.dtype), self.axes[1])


class Embedding(nn.Module):
    """A table of vectors, read by id on the way in and compared with on the way out.

    Vectors have length 1 in expectation, so inputs are scaled by ``√d`` (Vaswani et al. 2017, section 3.4).

    Attributes:
      size: number of vectors.
      width: of each.
      axis: logical axis of that number: ``vocab``, or ``length`` for vectors of positions.
      dtype: of what is read.
    """

    size: int
    width: int
    axis: str = "vocab"
    dtype: DTypeLike = jnp.float32

    def setup(self):
        initializer = named(nn.initializers.normal(self.width**-0.5), self.axis, "embed")
        self.table = self.param("table", initializer, (self.size, self.width))

    def __call__(self, ids: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        """The vectors of tokens."""
        table = divided(self.table, self.axis, None)  # rows are read whole
        return placed((table[ids] * self.width**0.5).astype(self.dtype))

    def logits(self, x: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """How well x fits each vector, in float32."""
        # The barrier keeps the transpose a step of its own, done once before the loop of a search and not within.
        return placed(product(x, jax.lax.optimization_barrier(self.table.T), jnp.float32), self.axis)
