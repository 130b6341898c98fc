"""Where in its sentence a token stands: added to its vector."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.config import ModelConfig
from flaxformer_lite.models.halves import Half
from flaxformer_lite.models.layers import Embedding
from flaxformer_lite.types import AnyArray


def sinusoidal(positions: Int[AnyArray, "*b"], width: int) -> Float[Array, "*b d"]:
    """Sines and cosines of ``width / 2`` wavelengths from 2π to 10000 · 2π, interleaved.

    Vaswani et al. (2017), section 3.5. Any position has one: no largest length is built in.
    """
    rates = jnp.exp(jnp.arange(0, width, 2) * (-jnp.log(10_000.0) / width))
    angles = positions[..., None] * rates
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(*positions.shape, width)


class Positions(nn.Module):
    """What all kinds have in common.

    Attributes:
      config: says which kind.
      half: of the Transformer that it tells.
      max_length: tokens that learned positions reach to; others have no end.
    """

    config: ModelConfig
    half: Half
    max_length: int

    def __call__(self, x: Float[Array, "*b d"], positions: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        """Word vectors x with what is added to them."""
        return x


class Waves(Positions):
    """Sines and cosines of positions."""

    def __call__(self, x: Float[Array, "*b d"], positions: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        """X and the waves."""
        return (x + sinusoidal(positions, self.half.width)).astype(x.dtype)


class Learned(Positions):
    """A vector for each position up to the longest."""

    def setup(self):
        self.vectors = Embedding(self.max_length, self.half.width, axis="length")

    def __call__(self, x: Float[Array, "*b d"], positions: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        """X and the vectors of the positions."""
        return (x + self.vectors(positions)).astype(x.dtype)


_KINDS = {"sinusoidal": Waves, "learned": Learned}


def make_positions(config: ModelConfig, half: Half, max_length: int) -> Positions:
    """The kind that ``model.positions`` names."""
    return _KINDS[config.positions](config, half, max_length)
