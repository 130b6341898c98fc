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


def bias(
    module: nn.Module, name: str, wanted: bool, shape: tuple[int, ...], axes: tuple[str, ...]
) -> Float[Array, "..."] | float:
    """A parameter of a module that begins as zeros and is added to what it computes; 0 where none is wanted."""
    return module.param(name, named(nn.initializers.zeros, *axes), shape) if wanted else 0.0


def plus(y: Float[Array, "..."], bias: Float[Array, "..."] | float) -> Float[Array, "..."]:
    """The sum in the dtype of y."""
    return y + jnp.asarray(bias, y.dtype)


def capped(x: Float[Array, "..."], cap: float) -> Float[Array, "..."]:
    """``cap · tanh(x / cap)``, which stays within the cap (Gemma 2, 2024, section 2); 0: x as it is."""
    return cap * jnp.tanh(x / cap) if cap else x


class Dropout(nn.Module):
    """Sets a share of the elements to 0 and scales the others up (Srivastava et al. 2014).

    Which ones is a hash of (key, place of the element): the murmur3 finaliser (Appleby 2011), once for each half of
    the key. On a CPU, JAX's own generator takes 40 % of a small model's training step and most of its compile time,
    this one next to nothing; and a mask, being a function of indices, is the same on any number of devices and whatever
    a batch is padded to.

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
        bits = hashing.mix(hashing.mix(hashing.place(shape) ^ key[0]) ^ key[-1])
        keep = bits >= jnp.uint32(round(self.rate * 2**32))
        return jnp.where(keep, x / (1 - self.rate), 0)


class LayerDropout(nn.Module):
    """Leaves a whole layer out of a training step, now and then (Fan et al. 2020). Nothing is scaled.

    Attributes:
      rate: how often.
    """

    rate: float

    @nn.compact
    def __call__(self, before: Float[Array, "*b"], after: Float[Array, "*b"], train: bool) -> Float[Array, "*b"]:
        """What the layer made of ``before``, or that itself."""
        if not train or self.rate == 0:
            return after
        return jnp.where(jax.random.bernoulli(self.make_rng("dropout"), self.rate), before, after)


class Dense(nn.Module):
    """``x W + b`` over the last axis of x.

    Attributes:
      features: width of the result.
      axes: logical axes of W, such as ``("embed", "mlp")``.
      dtype: of the result; that of x unless given.
      bias: whether there is b.
      kernel: what W begins as.
    """

    features: int
    axes: tuple[str, str]
    dtype: DTypeLike | None = None
    bias: bool = True
    kernel: nn.initializers.Initializer = KERNEL

    @nn.compact
    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        y = product(x, self.param("kernel", named(self.kernel, *self.axes), (x.shape[-1], self.features)), self.dtype)
        return placed(plus(y, bias(self, "bias", self.bias, (self.features,), self.axes[1:])), self.axes[1])


class Embedding(nn.Module):
    """A table of vectors, read by id on the way in and compared with on the way out.

    Scaled, vectors have length 1 in expectation, times ``√d`` on the way in (Vaswani et al. 2017, section 3.4).

    Attributes:
      size: number of vectors.
      width: of each.
      axis: logical axis of that number: ``vocab``, or ``length`` for vectors of positions.
      dtype: of what is read.
      scaled: whether what is read is ``√d`` times what the table has.
      deviation: standard deviation of new vectors' elements; 0: such that what is read has 1.
    """

    size: int
    width: int
    axis: str = "vocab"
    dtype: DTypeLike = jnp.float32
    scaled: bool = True
    deviation: float = 0.0

    def setup(self):
        deviation = self.deviation or 1 / self._scale
        self.table = self.param(
            "table", named(nn.initializers.normal(deviation), self.axis, "embed"), (self.size, self.width)
        )

    def __call__(self, ids: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        """The vectors of tokens."""
        table = divided(self.table, self.axis, None)  # rows are read whole
        return placed((table[ids].astype(jnp.float32) * self._scale).astype(self.dtype))

    def logits(self, x: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """How well x fits each vector, in float32."""
        # The barrier keeps the transpose a step of its own, done once before the loop of a search and not within.
        return placed(product(x, jax.lax.optimization_barrier(self.table.T), jnp.float32), self.axis)

    @property
    def _scale(self) -> float:
        return self.width**0.5 if self.scaled else 1.0
