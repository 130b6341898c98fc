"""Projection of decoder outputs to logits."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxformer_lite.config.model_dataclasses import ModelConfig
from flaxformer_lite.models.layers.embedding import Embedding
from flaxformer_lite.models.layers.initializers import kernel_init
from flaxformer_lite.models.layers.linear import add_bias, bias_param, constrain_activations, matmul_last, soft_cap


class TiedLmHead(nn.Module):
    """Logits by the target embeddings (Press & Wolf 2017).

    Attributes:
      size: of the vocabulary; logits of further rows of the table, which pad it, are cut off.
    """

    config: ModelConfig
    size: int

    def __call__(self, x: Float[Array, "b t r"], embedding: Embedding) -> Float[Array, "b t v"]:
        """Logits in float32."""
        logits = self.project(x * (x.shape[-1] ** -0.5 if self.config.lm_head.scale else 1), embedding)
        return soft_cap(logits[..., : self.size], self.config.lm_head.soft_cap)

    @nn.compact
    def project(self, x: Float[Array, "b t r"], embedding: Embedding) -> Float[Array, "b t _"]:
        """Logits of all rows of the table."""
        wanted = self.config.lm_head.bias == "always"
        return add_bias(embedding.logits(x), bias_param(self, "bias", wanted, (embedding.size,), ("vocab",)))


class UntiedLmHead(TiedLmHead):
    """Logits by a kernel of its own."""

    @nn.compact
    def project(self, x, embedding):
        init: Any = nn.with_logical_partitioning(kernel_init(self.config.init), ("embed", "vocab"))
        logits = matmul_last(x, self.param("kernel", init, (x.shape[-1], embedding.size)), jnp.float32)
        bias = bias_param(self, "bias", self.config.lm_head.bias != "never", (embedding.size,), ("vocab",))
        return constrain_activations(add_bias(logits, bias), "vocab")


def make_lm_head(config: ModelConfig, size: int) -> nn.Module:
    """Returns the projection that ``model.share_embeddings`` selects."""
    return (TiedLmHead if config.share_embeddings in ("all", "target") else UntiedLmHead)(config, size)
