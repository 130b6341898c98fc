"""Dropout of elements and of whole layers."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxformer_lite import checksum


class Dropout(nn.Module):
    """Sets a share ``rate`` of the elements to 0 and scales the others up (Srivastava et al. 2014).

    The mask is a hash of (key, index of the element): the murmur3 finalizer (Appleby 2011), once for each half of the
    key. With ``nn.Dropout``, JAX's generator takes 40 % of a small model's training step on a CPU and most of its
    compile time; and a mask that is a function of indices is the same on any number of devices and for any padding.

    Attributes:
      broadcast_dims: axes along which all elements share one mask.
    """

    rate: float
    broadcast_dims: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Float[Array, "*b"], train: bool) -> Float[Array, "*b"]:
        if not train or self.rate == 0:
            return x
        key = jax.random.key_data(self.make_rng("dropout")).astype(jnp.uint32)
        shape = tuple(1 if axis in self.broadcast_dims else size for axis, size in enumerate(x.shape))
        bits = checksum.murmur3_finalizer(checksum.murmur3_finalizer(checksum.position_hash(shape) ^ key[0]) ^ key[-1])
        keep = bits >= jnp.uint32(round(self.rate * 2**32))
        return jnp.where(keep, x / (1 - self.rate), 0)


class LayerDrop(nn.Module):
    """Skips a layer in a share ``rate`` of the training steps (Fan et al. 2020), without scaling."""

    rate: float

    @nn.compact
    def __call__(self, before: Float[Array, "*b"], after: Float[Array, "*b"], train: bool) -> Float[Array, "*b"]:
        """The output ``after`` of the layer, or its input ``before``."""
        if not train or self.rate == 0:
            return after
        return jnp.where(jax.random.bernoulli(self.make_rng("dropout"), self.rate), before, after)
