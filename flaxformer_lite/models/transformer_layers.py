"""The layers of a Transformer: sublayers of attention and feed-forward, one after the other."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float, Int

from flaxformer_lite.config import ModelConfig
from flaxformer_lite.models.attention import KeyValue, MultiHeadAttention, Sight
from flaxformer_lite.models.feed_forward import FeedForward
from flaxformer_lite.models.halves import Half
from flaxformer_lite.models.residual import make_residual
from flaxformer_lite.models.transformer_cache import written


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    config: ModelConfig
    half: Half

    def setup(self):
        c, half = self.config, self.half
        self.self_attention = MultiHeadAttention(c, half, half.width)
        self.self_attention_residual = make_residual(c)
        self.feed_forward = FeedForward(c, half)
        self.feed_forward_residual = make_residual(c)

    def __call__(self, x: Float[Array, "b s d"], sight: Sight, train: bool) -> Float[Array, "b s d"]:
        y = self.self_attention_residual.enter(x)
        y = self.self_attention(y, self.self_attention.project(y), sight, train)
        x = self.self_attention_residual.add(x, y, train)

        y = self.feed_forward(self.feed_forward_residual.enter(x), train)
        return self.feed_forward_residual.add(x, y, train)


class DecoderLayer(nn.Module):
    """Self-attention, attention to the source, and feed-forward."""

    config: ModelConfig
    half: Half
    memory_width: int

    def setup(self):
        c, half = self.config, self.half
        self.self_attention = MultiHeadAttention(c, half, half.width)
        self.self_attention_residual = make_residual(c)
        self.cross_attention = MultiHeadAttention(c, half, self.memory_width)
        self.cross_attention_residual = make_residual(c)
        self.feed_forward = FeedForward(c, half)
        self.feed_forward_residual = make_residual(c)

    def project_source(self, x: Float[Array, "b s d"]) -> KeyValue:
        """This layer's keys and values of the encoded source."""
        return self.cross_attention.project(x)

    def __call__(
        self,
        x: Float[Array, "b t d"],
        sight: Sight,
        source: KeyValue,
        source_sight: Sight,
        train: bool,
    ) -> Float[Array, "b t d"]:
        """All places of the targets at once."""
        return self._rest(self._targets(x, sight, train), source, source_sight, train)

    def source_weights(
        self,
        x: Float[Array, "b t d"],
        sight: Sight,
        source: KeyValue,
        source_sight: Sight,
    ) -> Float[Array, "b t s"]:
        """How much of each place of the source this layer reads, the mean of its heads."""
        y = self.cross_attention_residual.enter(self._targets(x, sight, False))
        return self.cross_attention.weights(y, source, source_sight, False).mean(1)

    def step(
        self,
        x: Float[Array, "b m d"],
        past: KeyValue,
        position: Int[Array, "b m"],
        sight: Sight,
        source: KeyValue,
        source_sight: Sight,
    ) -> tuple[Float[Array, "b m d"], KeyValue]:
        """The next place of each hypothesis; returns the keys and values with it written."""
        y = self.self_attention_residual.enter(x)
        past = written(past, self.self_attention.project(y), position)
        y = self.self_attention.over_beams(y, past, sight)
        x = self.self_attention_residual.add(x, y, False)
        return self._rest(x, source, source_sight, False), past

    def _targets(self, x, sight, train):
        y = self.self_attention_residual.enter(x)
        y = self.self_attention(y, self.self_attention.project(y), sight, train)
        return self.self_attention_residual.add(x, y, train)

    def _rest(self, x, source, source_sight, train):
        y = self.cross_attention(self.cross_attention_residual.enter(x), source, source_sight, train)
        x = self.cross_attention_residual.add(x, y, train)

        y = self.feed_forward(self.feed_forward_residual.enter(x), train)
        return self.feed_forward_residual.add(x, y, train)
