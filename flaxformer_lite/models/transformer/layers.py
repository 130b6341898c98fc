"""Transformer layers: attention and feed-forward sublayers with residual connections."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from flaxformer_lite.config.model_dataclasses import StackConfig
from flaxformer_lite.models.layers.attention import AttentionContext, KeyValue, MultiHeadAttention
from flaxformer_lite.models.layers.dropout import LayerDrop
from flaxformer_lite.models.layers.feed_forward import make_feed_forward
from flaxformer_lite.models.layers.positions import make_layer_positions
from flaxformer_lite.models.layers.residual import make_residual
from flaxformer_lite.models.transformer.kv_cache import KVCache


class _TransformerLayer(nn.Module):
    """The sublayers that encoder and decoder layers share; ``weight_init`` is ``model.init``."""

    config: StackConfig
    weight_init: str
    causal = False

    def setup(self):
        c = self.config
        self.positions = make_layer_positions(c, self.causal, self.weight_init)
        self.self_attention = MultiHeadAttention(c, self.weight_init, c.width)
        self.self_attention_residual = make_residual(c)
        self.feed_forward = make_feed_forward(c, self.weight_init)
        self.feed_forward_residual = make_residual(c)
        self.leave_out = LayerDrop(c.layerdrop)

    def self_attention_block(
        self, x: Float[Array, "b l d"], context: AttentionContext, train: bool
    ) -> Float[Array, "b l d"]:
        """Self-attention over whole sequences, with its residual connection."""
        y = self.self_attention_residual.pre(x)
        attended = self.self_attention.project(y, context.rope)
        y = self.self_attention(y, attended, self.with_layer_bias(context), train)
        return self.self_attention_residual.post(x, y, train)

    def feed_forward_block(self, x: Float[Array, "*b d"], train: bool) -> Float[Array, "*b d"]:
        """Feed-forward with its residual connection."""
        y = self.feed_forward(self.feed_forward_residual.pre(x), train)
        return self.feed_forward_residual.post(x, y, train)

    def with_layer_bias(self, context: AttentionContext) -> AttentionContext:
        """The context with the position bias of this layer, if it has one."""
        return context._replace(bias=context.bias + self.positions.bias(context.distances))


class EncoderLayer(_TransformerLayer):
    """Self-attention and feed-forward."""

    def __call__(self, x: Float[Array, "b s d"], context: AttentionContext, train: bool) -> Float[Array, "b s d"]:
        y = self.feed_forward_block(self.self_attention_block(x, context, train), train)
        return self.leave_out(x, y, train)


class DecoderLayer(_TransformerLayer):
    """Self-attention, cross-attention and feed-forward.

    Attributes:
      encoder_dim: width of the encoder's states.
    """

    encoder_dim: int
    causal = True

    def setup(self):
        super().setup()
        self.cross_attention = MultiHeadAttention(self.config, self.weight_init, self.encoder_dim)
        self.cross_attention_residual = make_residual(self.config)

    def project_source(self, x: Float[Array, "b s d"]) -> KeyValue:
        """Keys and values of the encoder's states."""
        return self.cross_attention.project(x, ())

    def __call__(
        self,
        x: Float[Array, "b t d"],
        context: AttentionContext,
        source: KeyValue,
        source_context: AttentionContext,
        train: bool,
    ) -> Float[Array, "b t d"]:
        y = self.self_attention_block(x, context, train)
        y = self.feed_forward_block(self.cross_attention_block(y, source, source_context, train), train)
        return self.leave_out(x, y, train)

    def cross_attention_block(
        self, x: Float[Array, "b t d"], source: KeyValue, context: AttentionContext, train: bool
    ) -> Float[Array, "b t d"]:
        """Cross-attention with its residual connection."""
        y = self.cross_attention(self.cross_attention_residual.pre(x), source, context, train)
        return self.cross_attention_residual.post(x, y, train)

    def source_weights(
        self, x: Float[Array, "b t d"], context: AttentionContext, source: KeyValue, source_context: AttentionContext
    ) -> Float[Array, "b t s"]:
        """Cross-attention weights, averaged over heads."""
        y = self.cross_attention_residual.pre(self.self_attention_block(x, context, False))
        return self.cross_attention.weights(y, source, source_context, False).mean(1)

    def step(
        self,
        x: Float[Array, "b m d"],
        cache: KVCache,
        layer: int,
        context: AttentionContext,
        source: KeyValue,
        source_context: AttentionContext,
    ) -> tuple[Float[Array, "b m d"], KVCache]:
        """One position of each hypothesis; returns the cache with its keys and values."""
        y = self.self_attention_residual.pre(x)
        cache = cache.append_kv(layer, self.self_attention.project(y, context.rope))
        y = self.self_attention.over_beams(y, cache.layers[layer], self.with_layer_bias(context))
        x = self.self_attention_residual.post(x, y, False)
        x = self.cross_attention_block(x, source, source_context, False)
        return self.feed_forward_block(x, False), cache
