"""Where in its sentence a token stands, and how a model is told: beside the words, or when they look at one another."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.models import initial, waves
from flaxformer_lite.models.halves import Half
from flaxformer_lite.models.layers import Embedding, named
from flaxformer_lite.models.relative import buckets
from flaxformer_lite.models.rotary import Turn, turn
from flaxformer_lite.types import AnyArray


class Positions(nn.Module):
    """What all kinds have in common: three ways to tell, of which each takes one and ``none`` takes none.

    Attributes:
      config: says which kind.
      half: of the Transformer that is told.
      max_length: tokens that learned positions reach to; others have no end.
    """

    config: ModelConfig
    half: Half
    max_length: int

    def __call__(self, x: Float[Array, "*b d"], positions: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        """Word vectors x with what is added to them."""
        return x

    def turns(self, positions: Int[AnyArray, "*b"]) -> tuple[Turn, ...]:
        """By what queries and keys of self-attention are turned."""
        return ()

    def biases(self, distances: Int[Array, "*b q l"]) -> tuple[Float[Array, "*b h q l"], ...]:
        """What is added to the logits of self-attention."""
        return ()


class Waves(Positions):
    """Adds sines and cosines of positions."""

    def __call__(self, x: Float[Array, "*b d"], positions: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        """X and the waves."""
        vectors = waves.LAYOUTS[self.config.positions]
        return (x + vectors(positions + self.config.position_details.offset, self.half.width)).astype(x.dtype)


class Learned(Positions):
    """Adds a vector for each position up to the longest."""

    def setup(self):
        details = self.config.position_details
        self.vectors = Embedding(
            size=self.max_length + details.offset,
            width=self.half.width,
            axis="length",
            scaled=details.scale,
            deviation=initial.deviation(self.config),
        )

    def __call__(self, x: Float[Array, "*b d"], positions: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        """X and the vectors of the positions."""
        return (x + self.vectors(positions + self.config.position_details.offset)).astype(x.dtype)


class Relative(Positions):
    """Adds to how well a key fits a number for each head and distance (Raffel et al. 2020, section 2.1)."""

    def setup(self):
        shape = self.config.position_details.buckets, self.half.num_heads
        self.table = self.param("table", named(nn.initializers.normal(self.half.width**-0.5), "length", "heads"), shape)

    def biases(self, distances: Int[Array, "*b q l"]) -> tuple[Float[Array, "*b h q l"], ...]:
        """One."""
        found = self.table.astype(jnp.float32)[buckets(distances, self.config.position_details, self.half.causal)]
        return (jnp.moveaxis(found, -1, -3),)


class Rotary(Positions):
    """Turns queries and keys by their positions, so that products tell distances (Su et al. 2021)."""

    def turns(self, positions: Int[AnyArray, "*b"]) -> tuple[Turn, ...]:
        """One."""
        return (turn(positions, self.half.head_width, self.config.position_details.theta),)


_KINDS = {
    "learned": Learned,
    "relative": Relative,
    "rotary": Rotary,
    **dict.fromkeys(waves.LAYOUTS, Waves),
}
_KINDS_OF_LAYERS = {"relative_per_layer": Relative}


def make_positions(config: ModelConfig, half: Half, max_length: int) -> Positions:
    """What ``model.positions`` says of a whole stack of layers."""
    return _KINDS.get(config.positions, Positions)(config, half, max_length)


def make_layer_positions(config: ModelConfig, half: Half) -> Positions:
    """What it says of each layer by itself."""
    return _KINDS_OF_LAYERS.get(config.positions, Positions)(config, half, max_length=0)
