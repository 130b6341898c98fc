"""What brings the activations of each place to one scale, in float32 whatever it reads."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.models.layers import named


class LayerNorm(nn.Module):
    """Layer normalisation with gain and bias (Ba et al. 2016)."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        scale = self.param("scale", named(nn.initializers.ones, "embed"), x.shape[-1:])
        bias = self.param("bias", named(nn.initializers.zeros, "embed"), x.shape[-1:])
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + self.epsilon) * scale + bias).astype(x.dtype)


class RmsNorm(nn.Module):
    """Divides by the root mean square, with a gain alone (Zhang & Sennrich 2019), as T5 has it."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        gain = self.param("scale", named(nn.initializers.ones, "embed"), x.shape[-1:])
        return (of_one_square(x, self.epsilon) * gain).astype(x.dtype)


class RmsNormFromOne(nn.Module):
    """The same with a gain of ``1 + scale``, which weight decay draws to 1 (Gemma 2024, and its code)."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        scale = self.param("scale", named(nn.initializers.zeros, "embed"), x.shape[-1:])
        return (of_one_square(x, self.epsilon) * (1 + scale.astype(jnp.float32))).astype(x.dtype)


class NoNorm(nn.Module):
    """Leaves activations as they are."""

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        return x


def of_one_square(x: Float[Array, "*b d"], epsilon: float) -> Float[Array, "*b d"]:
    """The vectors x, in float32, divided by the root of their elements' mean square."""
    x32 = x.astype(jnp.float32)
    return x32 * jax.lax.rsqrt(jnp.square(x32).mean(-1, keepdims=True) + epsilon)


_KINDS = {"layer": LayerNorm, "rms": RmsNorm, "rms_from_one": RmsNormFromOne}


def make_norm(config: ModelConfig) -> nn.Module:
    """The kind that ``model.norms`` names."""
    return _KINDS[config.norms.kind](config.norms.epsilon)


def make_embedding_norm(config: ModelConfig) -> nn.Module:
    """The norm of word vectors, where they have one."""
    return make_norm(config) if config.norms.embeddings else NoNorm()


def make_final_norm(config: ModelConfig) -> nn.Module:
    """The norm of what a stack of layers says at last, where it has one."""
    wanted = {"always": True, "never": False, "unless_after": config.norm != "after"}[config.norms.final]
    return make_norm(config) if wanted else NoNorm()
