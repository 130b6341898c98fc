"""Layer normalization and RMS normalization, computed in float32 whatever the dtype of their input.

Not Linen's: ``nn.LayerNorm`` is as fast (1.00 of a training step) but rounds differently, so that 30 steps after a work
directory is resumed key biases differ by 8e-3 (all else by 2e-7); ``nn.RMSNorm`` has no unit offset.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxformer_lite.config.model_dataclasses import NormConfig


class LayerNorm(nn.Module):
    """Layer normalization with gain and bias (Ba et al. 2016)."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        scale_init: Any = nn.with_logical_partitioning(nn.initializers.ones, ("embed",))
        bias_init: Any = nn.with_logical_partitioning(nn.initializers.zeros, ("embed",))
        scale = self.param("scale", scale_init, x.shape[-1:])
        bias = self.param("bias", bias_init, x.shape[-1:])
        x32 = x.astype(jnp.float32)
        centered = x32 - x32.mean(-1, keepdims=True)
        variance = jnp.square(centered).mean(-1, keepdims=True)
        return (centered * jax.lax.rsqrt(variance + self.epsilon) * scale + bias).astype(x.dtype)


class RMSNorm(nn.Module):
    """Division by the root mean square and a gain (Zhang & Sennrich 2019).

    Attributes:
      unit_offset: the gain is ``1 + scale``, which weight decay pulls towards 1 (Gemma 2024 and its code).
    """

    epsilon: float = 1e-6
    unit_offset: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        start = nn.initializers.zeros if self.unit_offset else nn.initializers.ones
        init: Any = nn.with_logical_partitioning(start, ("embed",))
        scale = self.param("scale", init, x.shape[-1:])
        gain = 1 + scale.astype(jnp.float32) if self.unit_offset else scale
        x32 = x.astype(jnp.float32)
        return (x32 * jax.lax.rsqrt(jnp.square(x32).mean(-1, keepdims=True) + self.epsilon) * gain).astype(x.dtype)


class IdentityNorm(nn.Module):
    """No normalization."""

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        return x


def make_norm(config: NormConfig) -> nn.Module:
    """The norm of a sublayer."""
    return RMSNorm(config.epsilon, config.unit_offset) if config.kind == "rms" else LayerNorm(config.epsilon)


def make_embedding_norm(config: NormConfig) -> nn.Module:
    """The norm of the embeddings, if there is one."""
    return make_norm(config) if config.embeddings else IdentityNorm()


def make_final_norm(config: NormConfig) -> nn.Module:
    """The norm of a stack's output, if there is one."""
    wanted = config.final == "always" or (config.final == "unless_post" and config.placement != "post")
    return make_norm(config) if wanted else IdentityNorm()
