"""The layers of a Transformer: sublayers of attention and feed-forward, one after the other."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float, Int

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.models.attention import KeyValue, MultiHeadAttention, Sight
from flaxformer_lite.models.feed_forward import make_feed_forward
from flaxformer_lite.models.halves import Half
from flaxformer_lite.models.layers import LayerDropout
from flaxformer_lite.models.positions import make_layer_positions
from flaxformer_lite.models.residual import make_residual
from flaxformer_lite.models.transformer_cache import written


class _Layer(nn.Module):
    """What layers of both halves have in common: they attend to their own half, and end with a feed-forward sublayer.

    Attributes:
      config: the kinds of their parts.
      half: their sizes.
    """

    config: ModelConfig
    half: Half

    def setup(self):
        c, half = self.config, self.half
        self.positions = make_layer_positions(c, half)
        self.self_attention = MultiHeadAttention(c, half, half.width)
        self.self_attention_residual = make_residual(c)
        self.feed_forward = make_feed_forward(c, half)
        self.feed_forward_residual = make_residual(c)
        self.leave_out = LayerDropout(c.layer_dropout)

    def attend(self, x: Float[Array, "b l d"], sight: Sight, train: bool) -> Float[Array, "b l d"]:
        """The sublayer of self-attention, over all places at once."""
        y = self.self_attention_residual.enter(x)
        y = self.self_attention(y, self.self_attention.project(y, sight.turns), self.told(sight), train)
        return self.self_attention_residual.add(x, y, train)

    def think(self, x: Float[Array, "*b d"], train: bool) -> Float[Array, "*b d"]:
        """The feed-forward sublayer."""
        y = self.feed_forward(self.feed_forward_residual.enter(x), train)
        return self.feed_forward_residual.add(x, y, train)

    def told(self, sight: Sight) -> Sight:
        """What places tell, also to this layer alone."""
        return sight._replace(biases=sight.biases + self.positions.biases(sight.distances))


class EncoderLayer(_Layer):
    """Self-attention and feed-forward."""

    def __call__(self, x: Float[Array, "b s d"], sight: Sight, train: bool) -> Float[Array, "b s d"]:
        return self.leave_out(x, self.think(self.attend(x, sight, train), train), train)


class DecoderLayer(_Layer):
    """Self-attention, attention to the source, and feed-forward.

    Attributes:
      memory_width: of what the encoder says of each place.
    """

    memory_width: int

    def setup(self):
        super().setup()
        self.cross_attention = MultiHeadAttention(self.config, self.half, self.memory_width)
        self.cross_attention_residual = make_residual(self.config)

    def project_source(self, x: Float[Array, "b s d"]) -> KeyValue:
        """This layer's keys and values of the encoded source."""
        return self.cross_attention.project(x, ())

    def __call__(
        self, x: Float[Array, "b t d"], sight: Sight, source: KeyValue, source_sight: Sight, train: bool
    ) -> Float[Array, "b t d"]:
        """All places of the targets at once."""
        y = self._read(self.attend(x, sight, train), source, source_sight, train)
        return self.leave_out(x, self.think(y, train), train)

    def source_weights(
        self, x: Float[Array, "b t d"], sight: Sight, source: KeyValue, source_sight: Sight
    ) -> Float[Array, "b t s"]:
        """How much of each place of the source this layer reads, the mean of its heads."""
        y = self.cross_attention_residual.enter(self.attend(x, sight, False))
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
        past = written(past, self.self_attention.project(y, sight.turns), position)
        y = self.self_attention.over_beams(y, past, self.told(sight))
        x = self.self_attention_residual.add(x, y, False)
        return self.think(self._read(x, source, source_sight, False), False), past

    def _read(self, x, source, source_sight, train):
        y = self.cross_attention(self.cross_attention_residual.enter(x), source, source_sight, train)
        return self.cross_attention_residual.add(x, y, train)
