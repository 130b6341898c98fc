"""The Transformer encoder-decoder (Vaswani et al. 2017)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.config import ModelConfig
from flaxformer_lite.models.attention import KeyValue, MultiHeadAttention, causal, same_segment
from flaxformer_lite.models.layers import Dense, Dropout, Embedding, FeedForward, LayerNorm, Residual
from flaxformer_lite.models.positions import sinusoidal
from flaxformer_lite.types import AnyArray, Tokens


class Encoded(NamedTuple):
    """What the decoder knows of the sources: each decoder layer's keys and values of them."""

    layers: tuple[KeyValue, ...]
    segments: Int[AnyArray, "b s"]


class TransformerCache(NamedTuple):
    """What hypotheses have said so far.

    Attributes:
      layers: for each decoder layer the keys and values that beam m wrote at place l: ``[b, m, h, k, l]``
        and ``[b, m, h, l, k]``.
      ancestry: which beam wrote the token at place l of the hypothesis that is now in beam m.
      position: number of tokens read; all hypotheses of one source stand at the same place, as every search keeps them.
    """

    layers: tuple[KeyValue, ...]
    ancestry: Int[Array, "b m l"]
    position: Int[Array, "b m"]

    def select(self, parents: Int[Array, "b m"]) -> TransformerCache:
        """Makes beam i go on from beam ``parents[:, i]``: its line of ancestors moves, keys and values stay."""
        return self._replace(
            ancestry=jnp.take_along_axis(self.ancestry, parents[:, :, None], axis=1),
            position=jnp.take_along_axis(self.position, parents, axis=1),
        )


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    config: ModelConfig

    def setup(self):
        c = self.config
        self.self_attention = MultiHeadAttention(c.num_heads, c.width, c.dropout)
        self.self_attention_residual = Residual(c.norm, c.dropout)
        self.feed_forward = FeedForward(c.mlp_width, c.dropout)
        self.feed_forward_residual = Residual(c.norm, c.dropout)

    def __call__(self, x: Float[Array, "b s d"], mask: Bool[Array, "b s s"], train: bool) -> Float[Array, "b s d"]:
        y = self.self_attention_residual.enter(x)
        y = self.self_attention(y, self.self_attention.project(y), mask, train)
        x = self.self_attention_residual.add(x, y, train)

        y = self.feed_forward(self.feed_forward_residual.enter(x), train)
        return self.feed_forward_residual.add(x, y, train)


class DecoderLayer(nn.Module):
    """Self-attention, attention to the source, and feed-forward."""

    config: ModelConfig

    def setup(self):
        c = self.config
        self.self_attention = MultiHeadAttention(c.num_heads, c.width, c.dropout)
        self.self_attention_residual = Residual(c.norm, c.dropout)
        self.cross_attention = MultiHeadAttention(c.num_heads, c.width, c.dropout)
        self.cross_attention_residual = Residual(c.norm, c.dropout)
        self.feed_forward = FeedForward(c.mlp_width, c.dropout)
        self.feed_forward_residual = Residual(c.norm, c.dropout)

    def project_source(self, x: Float[Array, "b s d"]) -> KeyValue:
        """This layer's keys and values of the encoded source."""
        return self.cross_attention.project(x)

    def __call__(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "b t t"],
        source: KeyValue,
        source_mask: Bool[Array, "b #t s"],
        train: bool,
    ) -> Float[Array, "b t d"]:
        """All places of the targets at once."""
        y = self.self_attention_residual.enter(x)
        y = self.self_attention(y, self.self_attention.project(y), mask, train)
        x = self.self_attention_residual.add(x, y, train)
        return self._rest(x, source, source_mask, train)

    def step(
        self,
        x: Float[Array, "b m d"],
        past: KeyValue,
        cache: TransformerCache,
        source: KeyValue,
        source_mask: Bool[Array, "b 1 s"],
    ) -> tuple[Float[Array, "b m d"], KeyValue]:
        """The next place of each hypothesis; returns the keys and values with it written."""
        y = self.self_attention_residual.enter(x)
        past = _write(past, self.self_attention.project(y[:, :, None]), cache.position)
        y = self.self_attention.over_beams(y, past, _own_past(cache))
        x = self.self_attention_residual.add(x, y, False)
        return self._rest(x, source, source_mask, False), past

    def _rest(self, x, source, source_mask, train):
        y = self.cross_attention(self.cross_attention_residual.enter(x), source, source_mask, train)
        x = self.cross_attention_residual.add(x, y, train)

        y = self.feed_forward(self.feed_forward_residual.enter(x), train)
        return self.feed_forward_residual.add(x, y, train)


def _write(past: KeyValue, new: KeyValue, position: Int[Array, "b m"]) -> KeyValue:
    b, m = jnp.ix_(*(jnp.arange(size) for size in position.shape))
    return KeyValue(
        keys=past.keys.at[b, m, :, :, position].set(new.keys[..., 0]),
        values=past.values.at[b, m, :, position].set(new.values[..., 0, :]),
    )


def _own_past(cache: TransformerCache) -> Bool[Array, "b m j l"]:
    _, beams, length = cache.ancestry.shape
    written = jnp.arange(length) <= cache.position[:, :, None]
    return (cache.ancestry[:, :, None, :] == jnp.arange(beams)[:, None]) & written[:, :, None, :]


class Transformer(nn.Module):
    """An encoder-decoder of attention alone; implements ``Seq2Seq``.

    Attributes:
      config: its sizes and kinds of parts.
      source_size: entries of the source vocabulary.
      target_size: entries of the target vocabulary.
      max_length: tokens that learned positions reach to; sinusoidal ones have no end.
    """

    config: ModelConfig
    source_size: int
    target_size: int
    max_length: int

    def setup(self):
        c = self.config
        self.target_embedding = Embedding(self.target_size, c.width)
        if c.share_embeddings != "all":
            self.source_embedding = Embedding(self.source_size, c.width)
        if c.share_embeddings == "none":
            self.output = Dense(self.target_size, ("embed", "vocab"))
        if c.positions == "learned":
            self.source_positions = Embedding(self.max_length, c.width, axis="length")
            self.target_positions = Embedding(self.max_length, c.width, axis="length")
        self.encoder_layers = [EncoderLayer(c) for _ in range(c.num_layers)]
        self.decoder_layers = [DecoderLayer(c) for _ in range(c.num_decoder_layers)]
        if c.norm == "before":
            self.encoder_norm = LayerNorm()
            self.decoder_norm = LayerNorm()
        self.drop = Dropout(c.dropout)

    def __call__(self, source: Tokens, target_in: Tokens, train: bool) -> Float[Array, "b t v"]:
        """Logits of the whole target: ``decode`` after ``encode``. Makes every parameter, so ``init`` calls it."""
        return self.decode(target_in, self.encode(source, train=train), train=train)

    def encode(self, source: Tokens, *, train: bool) -> Encoded:
        """Reads the sources once, up to each decoder layer's keys and values of them."""
        shared = self.config.share_embeddings == "all"
        x = self.target_embedding(source.ids) if shared else self.source_embedding(source.ids)
        x = x + self._positions(source.positions, "source")
        x = self.drop(x, train)
        mask = same_segment(source.segments, source.segments)
        for layer in self.encoder_layers:
            x = layer(x, mask, train)
        if self.config.norm == "before":
            x = self.encoder_norm(x)
        return Encoded(tuple(layer.project_source(x) for layer in self.decoder_layers), source.segments)

    def decode(self, target_in: Tokens, encoded: Encoded, *, train: bool) -> Float[Array, "b t v"]:
        """Logits of the token after each of ``target_in``, all places at once."""
        x = self.target_embedding(target_in.ids) + self._positions(target_in.positions, "target")
        x = self.drop(x, train)
        mask = same_segment(target_in.segments, target_in.segments) & causal(x.shape[1])
        source_mask = same_segment(target_in.segments, encoded.segments)
        for layer, source in zip(self.decoder_layers, encoded.layers, strict=True):
            x = layer(x, mask, source, source_mask, train)
        return self._logits(x)

    def init_cache(self, encoded: Encoded, beams: int, max_length: int) -> TransformerCache:
        """Room for ``max_length`` tokens of ``beams`` hypotheses a source."""
        batch, heads, head_width, _ = encoded.layers[0].keys.shape
        room = partial(jnp.zeros, dtype=encoded.layers[0].keys.dtype)
        empty = KeyValue(
            keys=room((batch, beams, heads, head_width, max_length)),
            values=room((batch, beams, heads, max_length, head_width)),
        )
        return TransformerCache(
            layers=tuple(empty for _ in encoded.layers),
            ancestry=jnp.broadcast_to(jnp.arange(beams)[:, None], (batch, beams, max_length)),
            position=jnp.zeros((batch, beams), jnp.int32),
        )

    def step(
        self, token: Int[Array, "b m"], cache: TransformerCache, encoded: Encoded
    ) -> tuple[Float[Array, "b m v"], TransformerCache]:
        """Logits of the token after ``token``, and the cache with it written at its hypothesis' position."""
        own = jnp.arange(token.shape[1])[None, :, None]
        here = jnp.arange(cache.ancestry.shape[2]) == cache.position[:, :, None]
        cache = cache._replace(ancestry=jnp.where(here, own, cache.ancestry))
        x = self.target_embedding(token) + self._positions(cache.position, "target")
        source_mask = (encoded.segments != 0)[:, None, :]
        layers = []
        for layer, past, source in zip(self.decoder_layers, cache.layers, encoded.layers, strict=True):
            x, past = layer.step(x, past, cache, source, source_mask)
            layers.append(past)
        return self._logits(x), cache._replace(layers=tuple(layers), position=cache.position + 1)

    def _positions(self, positions: Int[AnyArray, "b l"], side: str) -> Float[Array, "b l d"]:
        if self.config.positions == "sinusoidal":
            return sinusoidal(positions, self.config.width)
        return (self.source_positions if side == "source" else self.target_positions)(positions)

    def _logits(self, x: Float[Array, "b t d"]) -> Float[Array, "b t v"]:
        if self.config.norm == "before":
            x = self.decoder_norm(x)
        return self.output(x) if self.config.share_embeddings == "none" else self.target_embedding.logits(x)
