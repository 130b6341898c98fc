"""Transformer encoder and decoder (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.config.model_dataclasses import StackConfig
from flaxformer_lite.decoding_types import AnyArray
from flaxformer_lite.models.interface import EncoderOutput
from flaxformer_lite.models.layers.attention import (
    AttentionContext,
    KeyValue,
    attention_spans,
    causal_mask,
    segment_mask,
    within_span,
)
from flaxformer_lite.models.layers.dropout import Dropout
from flaxformer_lite.models.layers.norm import make_embedding_norm, make_final_norm
from flaxformer_lite.models.layers.positions import make_positions, relative_distances
from flaxformer_lite.models.layers.remat import rematerialize
from flaxformer_lite.models.transformer.kv_cache import KVCache, init_cache
from flaxformer_lite.models.transformer.layers import DecoderLayer, EncoderLayer
from flaxformer_lite.types import Tokens


class TransformerEncoded(NamedTuple):
    """The sources as a Transformer decoder reads them.

    Attributes:
      layers: a tuple of each decoder layer's ``KeyValue``; with scanned layers, the encoder's states.
      segments: of the source tokens.
    """

    layers: Any
    segments: Int[AnyArray, "b s"]


class TransformerStack(nn.Module):
    """Embedding of positions, layers and final norm of both stacks.

    Attributes:
      max_length: number of learned positions; other kinds have no limit.
      weight_init: ``model.init``.
      remat: ``model.remat``.
    """

    config: StackConfig
    max_length: int
    weight_init: str
    remat: str
    causal = False

    def setup(self):
        c = self.config
        self.spans = attention_spans(c, self.causal)
        self.positions = make_positions(c, self.causal, self.max_length, self.weight_init)
        self.norm_embeddings = make_embedding_norm(c.norm)
        self.layers = self.make_layers()
        self.norm = make_final_norm(c.norm)
        self.drop = Dropout(c.dropout)
        self.drop_final = Dropout(c.final_dropout)

    def make_layers(self) -> Any:
        """The layers, lowest first."""
        return [self.make_layer() for _ in range(self.config.num_layers)]

    def make_layer(self) -> nn.Module:
        """One layer."""
        raise NotImplementedError

    def pre(self, x: Float[Array, "*b d"], positions: Int[AnyArray, "*b"], train: bool) -> Float[Array, "*b d"]:
        """The input of the lowest layer."""
        return self.drop(self.norm_embeddings(self.positions(x, positions)), train)

    def post(self, x: Float[Array, "*b d"], train: bool) -> Float[Array, "*b d"]:
        """The output of the stack."""
        return self.drop_final(self.norm(x), train)

    def context(self, tokens: Tokens, mask: Bool[Array, "b l l"]) -> AttentionContext:
        """The context of self-attention over whole sequences."""
        indices = jnp.arange(tokens.ids.shape[1])
        distances = relative_distances(indices[None], indices)
        return AttentionContext(mask, distances, self.positions.bias(distances), self.positions.rope(tokens.positions))


class TransformerEncoder(TransformerStack):
    """Transformer encoder; implements ``Encoder``. Its summary of a source is the mean of the states."""

    def make_layer(self) -> nn.Module:
        return EncoderLayer(self.config, self.weight_init)

    def __call__(self, x: Float[Array, "b s d"], source: Tokens, train: bool) -> EncoderOutput:
        context = self.context(source, segment_mask(source.segments, source.segments))
        x = self.post(self.apply_layers(self.pre(x, source.positions, train), context, train), train)
        inside = (source.segments != 0)[..., None].astype(x.dtype)
        mean = ((x * inside).sum(1, jnp.float32) / jnp.maximum(inside.sum(1, jnp.float32), 1)).astype(x.dtype)
        return EncoderOutput(x, source.segments, ((mean,),))

    def apply_layers(self, x: Float[Array, "b s d"], context: AttentionContext, train: bool) -> Float[Array, "b s d"]:
        """All layers, lowest first."""
        for layer, span in zip(self.layers, self.spans, strict=True):
            own = within_span(self.config, context, span)
            x = rematerialize(lambda layer, x, own=own: layer(x, own, train), self.remat)(layer, x)
        return x


class TrainableTransformerDecoder(TransformerStack):
    """The part of a Transformer decoder that training needs; implements ``TrainableDecoder``.

    Attributes:
      encoder_dim: width of the encoder's states.
    """

    encoder_dim: int
    causal = True

    def make_layer(self) -> nn.Module:
        return DecoderLayer(self.config, self.weight_init, self.encoder_dim)

    def apply_layers(
        self,
        x: Float[Array, "b t d"],
        context: AttentionContext,
        encoded: TransformerEncoded,
        source_context: AttentionContext,
        train: bool,
    ) -> Float[Array, "b t d"]:
        """All layers, lowest first."""
        raise NotImplementedError

    def __call__(
        self, x: Float[Array, "b t d"], target_in: Tokens, encoded: TransformerEncoded, train: bool
    ) -> Float[Array, "b t d"]:
        x = self.pre(x, target_in.positions, train)
        context, source_context = self.contexts(target_in, encoded)
        return self.post(self.apply_layers(x, context, encoded, source_context, train), train)

    def contexts(self, target_in: Tokens, encoded: TransformerEncoded) -> tuple[AttentionContext, AttentionContext]:
        """The contexts of causal self-attention and of cross-attention."""
        mask = segment_mask(target_in.segments, target_in.segments) & causal_mask(target_in.ids.shape[1])
        return self.context(target_in, mask), AttentionContext(segment_mask(target_in.segments, encoded.segments))


class TransformerDecoder(TrainableTransformerDecoder):
    """Transformer decoder; implements ``SearchableDecoder``."""

    def project_source(self, encoder_output: EncoderOutput) -> TransformerEncoded:
        layers = tuple(layer.project_source(encoder_output.states) for layer in self.layers)
        return TransformerEncoded(layers, encoder_output.segments)

    def apply_layers(self, x, context, encoded, source_context, train):
        for layer, source, span in zip(self.layers, encoded.layers, self.spans, strict=True):
            own = within_span(self.config, context, span)

            def apply(layer: DecoderLayer, x: Array, source: KeyValue, own: AttentionContext = own) -> Array:
                return layer(x, own, source, source_context, train)

            x = rematerialize(apply, self.remat)(layer, x, source)
        return x

    def attention(
        self, x: Float[Array, "b t d"], target_in: Tokens, encoded: TransformerEncoded
    ) -> Float[Array, "b t s"]:
        """Cross-attention weights of the highest layer, averaged over heads."""
        context, source_context = self.contexts(target_in, encoded)
        x = self.pre(x, target_in.positions, False)
        contexts = [within_span(self.config, context, span) for span in self.spans]
        for layer, own, source in zip(self.layers[:-1], contexts[:-1], encoded.layers[:-1], strict=True):
            x = layer(x, own, source, source_context, False)
        return self.layers[-1].source_weights(x, contexts[-1], encoded.layers[-1], source_context)

    def init_cache(self, encoded: TransformerEncoded, beams: int, max_length: int) -> KVCache:
        return init_cache(encoded.layers[0], len(encoded.layers), beams, max_length)

    def step(
        self, x: Float[Array, "b m d"], cache: KVCache, encoded: TransformerEncoded
    ) -> tuple[Float[Array, "b m d"], KVCache]:
        cache = cache.mark_current()
        x = self.pre(x, cache.position, False)
        distances = relative_distances(cache.position[:, None], jnp.arange(cache.ancestry.shape[2]))
        rope = self.positions.rope(cache.position)
        context = AttentionContext(cache.ancestor_mask(), distances, self.positions.bias(distances), rope)
        source_context = AttentionContext((encoded.segments != 0)[:, None, :])
        for number, (layer, source, span) in enumerate(zip(self.layers, encoded.layers, self.spans, strict=True)):
            own = within_span(self.config, context, span)
            x, cache = layer.step(x, cache, number, own, source, source_context)
        return self.post(x, False), cache._replace(position=cache.position + 1)
