"""Position information: added to embeddings, added to attention logits, or applied to queries and keys."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flaxformer_lite.config.model_dataclasses import PositionsConfig, StackConfig
from flaxformer_lite.decoding_types import AnyArray
from flaxformer_lite.models.layers.embedding import Embedding
from flaxformer_lite.models.layers.initializers import embedding_stddev


class RotaryAngles(NamedTuple):
    """Cosines and sines of the angles of each position; entries i and i + k/2 belong to the same pair of elements."""

    cosines: Float[Array, "*b k"]
    sines: Float[Array, "*b k"]


class Positions(nn.Module):
    """No position information; subclasses override one of the three methods.

    Attributes:
      causal: whether the stack is a decoder.
      max_length: number of learned positions; other kinds have no limit.
      weight_init: ``model.init``.
    """

    config: StackConfig
    causal: bool
    max_length: int
    weight_init: str

    def __call__(self, x: Float[Array, "*b d"], positions: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        """Token embeddings x plus position embeddings."""
        return x

    def rope(self, positions: Int[AnyArray, "*b"]) -> tuple[RotaryAngles, ...]:
        """Rotary angles for queries and keys of self-attention; empty if there are none."""
        return ()

    def bias(self, distances: Int[Array, "*b q l"]) -> tuple[Float[Array, "*b h q l"], ...]:
        """Biases of the self-attention logits; empty if there are none."""
        return ()


class SinusoidalPositions(Positions):
    """Sinusoidal position embeddings."""

    def __call__(self, x: Float[Array, "*b d"], positions: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        vectors = _SINUSOIDS[self.config.positions.kind](positions + self.config.positions.offset, self.config.width)
        return (x + vectors).astype(x.dtype)


class LearnedPositions(Positions):
    """Learned position embeddings."""

    def setup(self):
        positions = self.config.positions
        self.vectors = Embedding(
            size=self.max_length + positions.offset,
            width=self.config.width,
            axis="length",
            scaled=positions.scale,
            stddev=embedding_stddev(self.weight_init),
        )

    def __call__(self, x: Float[Array, "*b d"], positions: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        return (x + self.vectors(positions + self.config.positions.offset)).astype(x.dtype)


class RelativeBias(Positions):
    """T5's relative position bias: a learned number for each head and bucket of distances (Raffel et al. 2020)."""

    def setup(self):
        init: Any = nn.with_logical_partitioning(nn.initializers.normal(self.config.width**-0.5), ("length", "heads"))
        self.table = self.param("table", init, (self.config.positions.num_buckets, self.config.num_heads))

    def bias(self, distances: Int[Array, "*b q l"]) -> tuple[Float[Array, "*b h q l"], ...]:
        buckets = relative_buckets(distances, self.config.positions, self.causal)
        return (jnp.moveaxis(self.table.astype(jnp.float32)[buckets], -1, -3),)


class RotaryPositions(Positions):
    """Rotary position embeddings (Su et al. 2021)."""

    def rope(self, positions: Int[AnyArray, "*b"]) -> tuple[RotaryAngles, ...]:
        return (rotary_angles(positions, self.config.head_size, self.config.positions.theta),)


def sinusoidal(positions: Int[AnyArray, "*b"], width: int) -> Float[Array, "*b d"]:
    """Sines and cosines of ``width / 2`` wavelengths from 2π to 10000 · 2π, interleaved.

    Vaswani et al. (2017), section 3.5.
    """
    angles = _angles(positions, jnp.arange(0, width, 2) / width)
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(*positions.shape, width)


def sinusoidal_concat(positions: Int[AnyArray, "*b"], width: int) -> Float[Array, "*b d"]:
    """The same wavelengths, all sines before all cosines, as in Marian (Junczys-Dowmunt et al. 2018)."""
    return _concatenated(_angles(positions, jnp.arange(0, width, 2) / width))


def sinusoidal_fairseq(positions: Int[AnyArray, "*b"], width: int) -> Float[Array, "*b d"]:
    """All sines before all cosines, wavelengths up to 10000 · 2π inclusive, as in fairseq (Ott et al. 2019)."""
    return _concatenated(_angles(positions, jnp.arange(width // 2) / (width // 2 - 1)))


def _angles(positions: Int[AnyArray, "*b"], exponents: Float[Array, " w"]) -> Float[Array, "*b w"]:
    return jnp.asarray(positions)[..., None] * jnp.exp(exponents * -jnp.log(10_000.0))


def _concatenated(angles: Float[Array, "*b w"]) -> Float[Array, "*b d"]:
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def relative_distances(queries: Int[Array, "*b q"], keys: Int[Array, " l"]) -> Int[Array, "*b q l"]:
    """Key position minus query position. Indices in a row may serve as positions, also in packed rows."""
    return keys - queries[..., None]


def relative_buckets(distances: Int[Array, "*b q l"], config: PositionsConfig, causal: bool) -> Int[Array, "*b q l"]:
    """The bucket of each distance.

    Half of the buckets are of one distance each, the others of logarithmically growing ranges up to ``max_distance``,
    beyond which is the last one (T5's code, after mesh TensorFlow). Without causality each direction has half of the
    buckets.
    """
    if causal:
        return _one_directional(config.num_buckets, config.max_distance)[jnp.clip(-distances, 0, config.max_distance)]
    half = config.num_buckets // 2
    before = _one_directional(half, config.max_distance)[jnp.minimum(jnp.abs(distances), config.max_distance)]
    return jnp.where(distances > 0, before + half, before)


def _one_directional(count: int, max_distance: int) -> Int[Array, " l"]:
    """The bucket of each distance up to the largest; by NumPy, because logarithms differ between devices."""
    exact, each = count // 2, np.arange(max_distance + 1)
    share = np.log(np.maximum(each, 1).astype(np.float32) / exact) / np.float32(np.log(max_distance / exact))
    rough = exact + (share * np.float32(count - exact)).astype(np.int32)
    return jnp.asarray(np.where(each < exact, each, np.minimum(rough, count - 1)), jnp.int32)


def rotary_angles(positions: Int[AnyArray, "*b"], width: int, theta: float) -> RotaryAngles:
    """The angles of positions: ``position · theta ** (-2 i / width)`` for the pair of elements i and i + width/2.

    Su et al. (2021, equation 15) pair neighbors; published weights pair the halves.
    """
    angles = positions[..., None] * theta ** -(jnp.arange(0, width, 2) / width)
    angles = jnp.concatenate([angles, angles], axis=-1)
    return RotaryAngles(jnp.cos(angles), jnp.sin(angles))


def apply_rope(x: Float[Array, "*b h k"], rope: tuple[RotaryAngles, ...]) -> Float[Array, "*b h k"]:
    """Rotates the heads of each position, in the dtype of x."""
    for cosines, sines in rope:
        first, second = jnp.split(x, 2, axis=-1)
        rotated = jnp.concatenate([-second, first], axis=-1)
        x = x * cosines[..., None, :].astype(x.dtype) + rotated * sines[..., None, :].astype(x.dtype)
    return x


_SINUSOIDS = {
    "sinusoidal": sinusoidal,
    "sinusoidal_concat": sinusoidal_concat,
    "sinusoidal_fairseq": sinusoidal_fairseq,
}
_KINDS = {
    **dict.fromkeys(_SINUSOIDS, SinusoidalPositions),
    "learned": LearnedPositions,
    "relative_bias": RelativeBias,
    "rotary": RotaryPositions,
}


def make_positions(config: StackConfig, causal: bool, max_length: int, weight_init: str) -> Positions:
    """The position information of a whole stack."""
    kind = "none" if config.positions.per_layer else config.positions.kind
    return _KINDS.get(kind, Positions)(config, causal, max_length, weight_init)


def make_layer_positions(config: StackConfig, causal: bool, weight_init: str) -> Positions:
    """The position information of one layer (UMT5)."""
    kind = config.positions.kind if config.positions.per_layer else "none"
    return _KINDS.get(kind, Positions)(config, causal, 0, weight_init)
