"""Encoder and decoder of attention alone (Vaswani et al. 2017)."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.config import ModelConfig
from flaxformer_lite.models.attention import KeyValue, MultiHeadAttention, causal, same_segment
from flaxformer_lite.models.interface import Memory
from flaxformer_lite.models.layers import Dropout, Embedding, FeedForward, LayerNorm, Residual
from flaxformer_lite.models.positions import sinusoidal
from flaxformer_lite.models.remat import rematerialised
from flaxformer_lite.types import AnyArray, Tokens


class Encoded(NamedTuple):
    """What the decoder knows of the sources.

    Attributes:
      layers: a tuple, each decoder layer's ``KeyValue`` of them; where layers are scanned, the states to make them of.
      segments: of the source tokens.
    """

    layers: Any
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
        self.self_attention = MultiHeadAttention(c.num_heads, c.width, c.width, c.dropout)
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
    memory_width: int

    def setup(self):
        c = self.config
        self.self_attention = MultiHeadAttention(c.num_heads, c.width, c.width, c.dropout)
        self.self_attention_residual = Residual(c.norm, c.dropout)
        self.cross_attention = MultiHeadAttention(c.num_heads, c.width, self.memory_width, c.dropout)
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
        return self._rest(self._targets(x, mask, train), source, source_mask, train)

    def source_weights(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "b t t"],
        source: KeyValue,
        source_mask: Bool[Array, "b #t s"],
    ) -> Float[Array, "b t s"]:
        """How much of each place of the source this layer reads, the mean of its heads."""
        y = self.cross_attention_residual.enter(self._targets(x, mask, False))
        return self.cross_attention.weights(y, source, source_mask, False).mean(1)

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

    def _targets(self, x, mask, train):
        y = self.self_attention_residual.enter(x)
        y = self.self_attention(y, self.self_attention.project(y), mask, train)
        return self.self_attention_residual.add(x, y, train)

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


def _masks(target_in: Tokens, encoded: Encoded) -> tuple[Bool[Array, "b t t"], Bool[Array, "b t s"]]:
    own = same_segment(target_in.segments, target_in.segments) & causal(target_in.ids.shape[1])
    return own, same_segment(target_in.segments, encoded.segments)


class Positions(nn.Module):
    """Adds to word vectors where in their sentence they stand."""

    config: ModelConfig
    max_length: int

    def setup(self):
        if self.config.positions == "learned":
            self.vectors = Embedding(self.max_length, self.config.width, axis="length")

    def __call__(self, x: Float[Array, "*b d"], positions: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        """X and the vectors of the positions."""
        learned = self.config.positions == "learned"
        return (x + (self.vectors(positions) if learned else sinusoidal(positions, self.config.width))).astype(x.dtype)


class TransformerEncoder(nn.Module):
    """Reads all places of the sources at once; implements ``Encoder``.

    Attributes:
      config: its sizes and kinds of parts.
      max_length: tokens that learned positions reach to; sinusoidal ones have no end.
    """

    config: ModelConfig
    max_length: int

    def setup(self):
        c = self.config
        self.positions = Positions(c, self.max_length)
        self.layers = self.make_layers()
        if c.norm == "before":
            self.norm = LayerNorm()
        self.drop = Dropout(c.dropout)

    def make_layers(self) -> Any:
        """The layers, lowest first."""
        return [EncoderLayer(self.config) for _ in range(self.config.num_layers)]

    def __call__(self, x: Float[Array, "b s d"], source: Tokens, train: bool) -> Memory:
        """Reads word vectors x of the tokens ``source``; their mean is the summary."""
        x = self.drop(self.positions(x, source.positions), train)
        x = self.through(x, same_segment(source.segments, source.segments), train)
        if self.config.norm == "before":
            x = self.norm(x)
        inside = (source.segments != 0)[..., None].astype(x.dtype)
        mean = ((x * inside).sum(1, jnp.float32) / jnp.maximum(inside.sum(1, jnp.float32), 1)).astype(x.dtype)
        return Memory(x, source.segments, ((mean,),))

    def through(self, x: Float[Array, "b s d"], mask: Bool[Array, "b s s"], train: bool) -> Float[Array, "b s d"]:
        """One layer after the other."""
        for layer in self.layers:
            x = rematerialised(lambda layer, x: layer(x, mask, train), self.config.remat)(layer, x)
        return x


class TransformerDecoder(nn.Module):
    """Writes with all earlier places in sight; implements ``Decoder``.

    Attributes:
      config: its sizes and kinds of parts.
      memory_width: of what the encoder says of each place.
      max_length: tokens that learned positions reach to; sinusoidal ones have no end.
    """

    config: ModelConfig
    memory_width: int
    max_length: int

    def setup(self):
        c = self.config
        self.positions = Positions(c, self.max_length)
        self.layers = self.make_layers()
        if c.norm == "before":
            self.norm = LayerNorm()
        self.drop = Dropout(c.dropout)

    def make_layers(self) -> Any:
        """The layers, lowest first."""
        return [DecoderLayer(self.config, self.memory_width) for _ in range(self.config.num_decoder_layers)]

    def read(self, memory: Memory) -> Encoded:
        """Each layer's keys and values of the sources."""
        return Encoded(tuple(layer.project_source(memory.states) for layer in self.layers), memory.segments)

    def __call__(
        self, x: Float[Array, "b t d"], target_in: Tokens, encoded: Encoded, train: bool
    ) -> Float[Array, "b t d"]:
        """All places of the targets at once."""
        mask, source_mask = _masks(target_in, encoded)
        x = self.drop(self.positions(x, target_in.positions), train)
        return self._finish(self.through(x, mask, encoded, source_mask, train))

    def through(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "b t t"],
        encoded: Encoded,
        source_mask: Bool[Array, "b #t s"],
        train: bool,
    ) -> Float[Array, "b t d"]:
        """One layer after the other."""

        def advance(layer: DecoderLayer, x: Array, source: KeyValue) -> Array:
            return layer(x, mask, source, source_mask, train)

        for layer, source in zip(self.layers, encoded.layers, strict=True):
            x = rematerialised(advance, self.config.remat)(layer, x, source)
        return x

    def attention(self, x: Float[Array, "b t d"], target_in: Tokens, encoded: Encoded) -> Float[Array, "b t s"]:
        """How much of each place of the source every place of the targets reads in the highest layer."""
        mask, source_mask = _masks(target_in, encoded)
        x = self.positions(x, target_in.positions)
        for layer, source in zip(self.layers[:-1], encoded.layers[:-1], strict=True):
            x = layer(x, mask, source, source_mask, False)
        return self.layers[-1].source_weights(x, mask, encoded.layers[-1], source_mask)

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
        self, x: Float[Array, "b m d"], cache: TransformerCache, encoded: Encoded
    ) -> tuple[Float[Array, "b m d"], TransformerCache]:
        """The next place of each hypothesis, and the cache with it written."""
        own = jnp.arange(x.shape[1])[None, :, None]
        here = jnp.arange(cache.ancestry.shape[2]) == cache.position[:, :, None]
        cache = cache._replace(ancestry=jnp.where(here, own, cache.ancestry))
        x = self.positions(x, cache.position)
        source_mask = (encoded.segments != 0)[:, None, :]
        layers = []
        for layer, past, source in zip(self.layers, cache.layers, encoded.layers, strict=True):
            x, past = layer.step(x, past, cache, source, source_mask)
            layers.append(past)
        return self._finish(x), cache._replace(layers=tuple(layers), position=cache.position + 1)

    def _finish(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        return self.norm(x) if self.config.norm == "before" else x
