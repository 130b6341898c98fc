"""From what a decoder says of a place to a logit for each word."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.models import initial
from flaxformer_lite.models.layers import Embedding, bias, capped, named, placed, plus, product


class _Output(nn.Module):
    """What both kinds have in common.

    Attributes:
      config: whether they are scaled and capped.
      size: of the vocabulary; rows beyond it, which tables may have, are never said.
    """

    config: ModelConfig
    size: int

    def __call__(self, x: Float[Array, "b t r"], embedding: Embedding) -> Float[Array, "b t v"]:
        """Logits in float32."""
        logits = self.compare(x * (x.shape[-1] ** -0.5 if self.config.output.scale else 1), embedding)
        return capped(logits[..., : self.size], self.config.output.softcap)

    def compare(self, x: Float[Array, "b t r"], embedding: Embedding) -> Float[Array, "b t _"]:
        """How well x fits each word, and how likely each is by itself."""
        raise NotImplementedError


class TiedOutput(_Output):
    """By the word vectors that the decoder reads (Press & Wolf 2017)."""

    @nn.compact
    def compare(self, x, embedding):
        biased = self.config.output.bias == "always"
        return plus(embedding.logits(x), bias(self, "bias", biased, (embedding.size,), ("vocab",)))


class UntiedOutput(_Output):
    """By vectors of its own, ``kernel``."""

    @nn.compact
    def compare(self, x, embedding):
        biased, rows = self.config.output.bias != "never", embedding.size
        kernel = self.param("kernel", named(initial.kernel(self.config), "embed", "vocab"), (x.shape[-1], rows))
        logits = product(x, kernel, jnp.float32)
        return placed(plus(logits, bias(self, "bias", biased, (rows,), ("vocab",))), "vocab")


def make_output(config: ModelConfig, size: int) -> nn.Module:
    """The kind that ``model.share_embeddings`` calls for."""
    return (TiedOutput if config.share_embeddings in ("all", "target") else UntiedOutput)(config, size)
