"""What brings the activations of each place to one scale."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxformer_lite.config import ModelConfig
from flaxformer_lite.models.layers import named


class LayerNorm(nn.Module):
    """Layer normalisation with gain and bias (Ba et al. 2016), in float32."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        scale = self.param("scale", named(nn.initializers.ones, "embed"), x.shape[-1:])
        bias = self.param("bias", named(nn.initializers.zeros, "embed"), x.shape[-1:])
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + self.epsilon) * scale + bias).astype(x.dtype)


class NoNorm(nn.Module):
    """Leaves activations as they are."""

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        return x


def make_norm(config: ModelConfig) -> nn.Module:
    """The norm of a sublayer."""
    del config  # there is one kind
    return LayerNorm()


def make_final_norm(config: ModelConfig) -> nn.Module:
    """The norm of what a stack of layers says at last; after layers that end with a norm there is none."""
    return make_norm(config) if config.norm == "before" else NoNorm()
