"""Encoder and decoder of attention alone (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.models.attention import KeyValue, Sight, causal, same_segment
from flaxformer_lite.models.halves import Half, decoder_half, encoder_half
from flaxformer_lite.models.interface import Memory
from flaxformer_lite.models.layers import Dropout
from flaxformer_lite.models.norms import make_embedding_norm, make_final_norm
from flaxformer_lite.models.positions import make_positions
from flaxformer_lite.models.relative import distances
from flaxformer_lite.models.remat import rematerialised
from flaxformer_lite.models.transformer_cache import TransformerCache, begun, empty, own_past
from flaxformer_lite.models.transformer_layers import DecoderLayer, EncoderLayer
from flaxformer_lite.models.windows import narrower, reaches
from flaxformer_lite.types import AnyArray, Tokens


class Encoded(NamedTuple):
    """What the decoder knows of the sources.

    Attributes:
      layers: a tuple, each decoder layer's ``KeyValue`` of them; where layers are scanned, the states to make them of.
      segments: of the source tokens.
    """

    layers: Any
    segments: Int[AnyArray, "b s"]


class _Stack(nn.Module):
    """What both halves have in common, but for the layers themselves.

    Attributes:
      config: its sizes and kinds of parts.
      max_length: tokens that learned positions reach to; others have no end.
    """

    config: ModelConfig
    max_length: int

    def setup(self):
        c = self.config
        self.half = self.take_half()
        self.reaches = reaches(c, self.half)
        self.narrow = narrower(c)
        self.positions = make_positions(c, self.half, self.max_length)
        self.norm_embeddings = make_embedding_norm(c)
        self.layers = self.make_layers()
        self.norm = make_final_norm(c)
        self.drop = Dropout(c.dropout)
        self.drop_final = Dropout(c.final_dropout)

    def take_half(self) -> Half:
        """Which half it is."""
        raise NotImplementedError

    def make_layers(self) -> Any:
        """The layers, lowest first."""
        raise NotImplementedError

    def enter(self, x: Float[Array, "*b d"], positions: Int[AnyArray, "*b"], train: bool) -> Float[Array, "*b d"]:
        """What the lowest layer reads."""
        return self.drop(self.norm_embeddings(self.positions(x, positions)), train)

    def leave(self, x: Float[Array, "*b d"], train: bool) -> Float[Array, "*b d"]:
        """What is made of the highest layer's."""
        return self.drop_final(self.norm(x), train)

    def sight(self, tokens: Tokens, mask: Bool[Array, "b l l"]) -> Sight:
        """What tokens may see of one another, and what their places tell."""
        places = jnp.arange(tokens.ids.shape[1])
        apart = distances(places[None], places)
        return Sight(mask, apart, self.positions.biases(apart), self.positions.turns(tokens.positions))


class TransformerEncoder(_Stack):
    """Reads all places of the sources at once; implements ``Encoder``."""

    def take_half(self) -> Half:
        """The one that reads."""
        return encoder_half(self.config)

    def make_layers(self) -> Any:
        """The layers, lowest first."""
        return [EncoderLayer(self.config, self.half) for _ in range(self.half.num_layers)]

    def __call__(self, x: Float[Array, "b s d"], source: Tokens, train: bool) -> Memory:
        """Reads word vectors x of the tokens ``source``; their mean is the summary."""
        sight = self.sight(source, same_segment(source.segments, source.segments))
        x = self.leave(self.through(self.enter(x, source.positions, train), sight, train), train)
        inside = (source.segments != 0)[..., None].astype(x.dtype)
        mean = ((x * inside).sum(1, jnp.float32) / jnp.maximum(inside.sum(1, jnp.float32), 1)).astype(x.dtype)
        return Memory(x, source.segments, ((mean,),))

    def through(self, x: Float[Array, "b s d"], sight: Sight, train: bool) -> Float[Array, "b s d"]:
        """One layer after the other."""
        for layer, reach in zip(self.layers, self.reaches, strict=True):
            own = self.narrow(sight, reach)
            x = rematerialised(lambda layer, x, own=own: layer(x, own, train), self.config.remat)(layer, x)
        return x


class TransformerDecoder(_Stack):
    """Writes with all earlier places in sight; implements ``Decoder``.

    Attributes:
      memory_width: of what the encoder says of each place.
    """

    memory_width: int

    def take_half(self) -> Half:
        """The one that writes."""
        return decoder_half(self.config)

    def make_layers(self) -> Any:
        """The layers, lowest first."""
        return [DecoderLayer(self.config, self.half, self.memory_width) for _ in range(self.half.num_layers)]

    def read(self, memory: Memory) -> Encoded:
        """Each layer's keys and values of the sources."""
        return Encoded(tuple(layer.project_source(memory.states) for layer in self.layers), memory.segments)

    def __call__(
        self, x: Float[Array, "b t d"], target_in: Tokens, encoded: Encoded, train: bool
    ) -> Float[Array, "b t d"]:
        """All places of the targets at once."""
        x = self.enter(x, target_in.positions, train)
        x = self.through(x, self._own_sight(target_in), encoded, _source_sight(target_in, encoded), train)
        return self.leave(x, train)

    def through(
        self, x: Float[Array, "b t d"], sight: Sight, encoded: Encoded, source_sight: Sight, train: bool
    ) -> Float[Array, "b t d"]:
        """One layer after the other."""
        for layer, source, reach in zip(self.layers, encoded.layers, self.reaches, strict=True):
            own = self.narrow(sight, reach)

            def advance(layer: DecoderLayer, x: Array, source: KeyValue, own: Sight = own) -> Array:
                return layer(x, own, source, source_sight, train)

            x = rematerialised(advance, self.config.remat)(layer, x, source)
        return x

    def attention(self, x: Float[Array, "b t d"], target_in: Tokens, encoded: Encoded) -> Float[Array, "b t s"]:
        """How much of each place of the source every place of the targets reads in the highest layer."""
        sight, source_sight = self._own_sight(target_in), _source_sight(target_in, encoded)
        x = self.enter(x, target_in.positions, False)
        sights = [self.narrow(sight, reach) for reach in self.reaches]
        for layer, own, source in zip(self.layers[:-1], sights[:-1], encoded.layers[:-1], strict=True):
            x = layer(x, own, source, source_sight, False)
        return self.layers[-1].source_weights(x, sights[-1], encoded.layers[-1], source_sight)

    def init_cache(self, encoded: Encoded, beams: int, max_length: int) -> TransformerCache:
        """Room for ``max_length`` tokens of ``beams`` hypotheses a source."""
        return empty(encoded.layers[0], len(encoded.layers), beams, max_length)

    def step(
        self, x: Float[Array, "b m d"], cache: TransformerCache, encoded: Encoded
    ) -> tuple[Float[Array, "b m d"], TransformerCache]:
        """The next place of each hypothesis, and the cache with it written."""
        cache = begun(cache)
        x = self.enter(x, cache.position, False)
        apart = distances(cache.position[:, None], jnp.arange(cache.ancestry.shape[2]))
        turns = self.positions.turns(cache.position)
        sight = Sight(own_past(cache), apart, self.positions.biases(apart), turns)
        source_sight = Sight((encoded.segments != 0)[:, None, :])
        layers = []
        for layer, past, source, reach in zip(self.layers, cache.layers, encoded.layers, self.reaches, strict=True):
            x, past = layer.step(x, past, cache.position, self.narrow(sight, reach), source, source_sight)
            layers.append(past)
        return self.leave(x, False), cache._replace(layers=tuple(layers), position=cache.position + 1)

    def _own_sight(self, target_in: Tokens) -> Sight:
        mask = same_segment(target_in.segments, target_in.segments) & causal(target_in.ids.shape[1])
        return self.sight(target_in, mask)


def _source_sight(target_in: Tokens, encoded: Encoded) -> Sight:
    return Sight(same_segment(target_in.segments, encoded.segments))
