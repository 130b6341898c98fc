"""Encoder and decoder of attention alone (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.config import ModelConfig
from flaxformer_lite.models.attention import KeyValue, Sight, causal, same_segment
from flaxformer_lite.models.halves import decoder_half, encoder_half
from flaxformer_lite.models.interface import Memory
from flaxformer_lite.models.layers import Dropout
from flaxformer_lite.models.norms import make_final_norm
from flaxformer_lite.models.positions import make_positions
from flaxformer_lite.models.remat import rematerialised
from flaxformer_lite.models.transformer_cache import TransformerCache, begun, empty, own_past
from flaxformer_lite.models.transformer_layers import DecoderLayer, EncoderLayer
from flaxformer_lite.types import AnyArray, Tokens


class Encoded(NamedTuple):
    """What the decoder knows of the sources.

    Attributes:
      layers: a tuple, each decoder layer's ``KeyValue`` of them; where layers are scanned, the states to make them of.
      segments: of the source tokens.
    """

    layers: Any
    segments: Int[AnyArray, "b s"]


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
        self.half = encoder_half(c)
        self.positions = make_positions(c, self.half, self.max_length)
        self.layers = self.make_layers()
        self.norm = make_final_norm(c)
        self.drop = Dropout(c.dropout)

    def make_layers(self) -> Any:
        """The layers, lowest first."""
        return [EncoderLayer(self.config, self.half) for _ in range(self.half.num_layers)]

    def __call__(self, x: Float[Array, "b s d"], source: Tokens, train: bool) -> Memory:
        """Reads word vectors x of the tokens ``source``; their mean is the summary."""
        x = self.drop(self.positions(x, source.positions), train)
        x = self.norm(self.through(x, Sight(same_segment(source.segments, source.segments)), train))
        inside = (source.segments != 0)[..., None].astype(x.dtype)
        mean = ((x * inside).sum(1, jnp.float32) / jnp.maximum(inside.sum(1, jnp.float32), 1)).astype(x.dtype)
        return Memory(x, source.segments, ((mean,),))

    def through(self, x: Float[Array, "b s d"], sight: Sight, train: bool) -> Float[Array, "b s d"]:
        """One layer after the other."""
        for layer in self.layers:
            x = rematerialised(lambda layer, x: layer(x, sight, train), self.config.remat)(layer, x)
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
        self.half = decoder_half(c)
        self.positions = make_positions(c, self.half, self.max_length)
        self.layers = self.make_layers()
        self.norm = make_final_norm(c)
        self.drop = Dropout(c.dropout)

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
        x = self.drop(self.positions(x, target_in.positions), train)
        return self.norm(self.through(x, self._sight(target_in), encoded, _source_sight(target_in, encoded), train))

    def through(
        self, x: Float[Array, "b t d"], sight: Sight, encoded: Encoded, source_sight: Sight, train: bool
    ) -> Float[Array, "b t d"]:
        """One layer after the other."""

        def advance(layer: DecoderLayer, x: Array, source: KeyValue) -> Array:
            return layer(x, sight, source, source_sight, train)

        for layer, source in zip(self.layers, encoded.layers, strict=True):
            x = rematerialised(advance, self.config.remat)(layer, x, source)
        return x

    def attention(self, x: Float[Array, "b t d"], target_in: Tokens, encoded: Encoded) -> Float[Array, "b t s"]:
        """How much of each place of the source every place of the targets reads in the highest layer."""
        sight, source_sight = self._sight(target_in), _source_sight(target_in, encoded)
        x = self.positions(x, target_in.positions)
        for layer, source in zip(self.layers[:-1], encoded.layers[:-1], strict=True):
            x = layer(x, sight, source, source_sight, False)
        return self.layers[-1].source_weights(x, sight, encoded.layers[-1], source_sight)

    def init_cache(self, encoded: Encoded, beams: int, max_length: int) -> TransformerCache:
        """Room for ``max_length`` tokens of ``beams`` hypotheses a source."""
        return empty(encoded.layers[0], len(encoded.layers), beams, max_length)

    def step(
        self, x: Float[Array, "b m d"], cache: TransformerCache, encoded: Encoded
    ) -> tuple[Float[Array, "b m d"], TransformerCache]:
        """The next place of each hypothesis, and the cache with it written."""
        cache = begun(cache)
        x = self.positions(x, cache.position)
        sight, source_sight = Sight(own_past(cache)), Sight((encoded.segments != 0)[:, None, :])
        layers = []
        for layer, past, source in zip(self.layers, cache.layers, encoded.layers, strict=True):
            x, past = layer.step(x, past, cache.position, sight, source, source_sight)
            layers.append(past)
        return self.norm(x), cache._replace(layers=tuple(layers), position=cache.position + 1)

    def _sight(self, target_in: Tokens) -> Sight:
        return Sight(same_segment(target_in.segments, target_in.segments) & causal(target_in.ids.shape[1]))


def _source_sight(target_in: Tokens, encoded: Encoded) -> Sight:
    return Sight(same_segment(target_in.segments, encoded.segments))
