"""Positions as sines and cosines of many wavelengths. Any position has a vector: no largest length is built in."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.types import AnyArray


def sinusoidal(positions: Int[AnyArray, "*b"], width: int) -> Float[Array, "*b d"]:
    """Sines and cosines of ``width / 2`` wavelengths from 2π to 10000 · 2π, interleaved.

    Vaswani et al. (2017), section 3.5.
    """
    angles = _angles(positions, jnp.arange(0, width, 2) / width)
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(*positions.shape, width)


def halves(positions: Int[AnyArray, "*b"], width: int) -> Float[Array, "*b d"]:
    """The same wavelengths, all sines before all cosines: as Marian (Junczys-Dowmunt et al. 2018) has them."""
    return _side_by_side(_angles(positions, jnp.arange(0, width, 2) / width))


def fairseq(positions: Int[AnyArray, "*b"], width: int) -> Float[Array, "*b d"]:
    """All sines before all cosines, up to 10000 · 2π itself, as fairseq (Ott et al. 2019) has them."""
    return _side_by_side(_angles(positions, jnp.arange(width // 2) / (width // 2 - 1)))


LAYOUTS = {"sinusoidal": sinusoidal, "halves": halves, "fairseq": fairseq}


def _angles(positions: Int[AnyArray, "*b"], exponents: Float[Array, " w"]) -> Float[Array, "*b w"]:
    return jnp.asarray(positions)[..., None] * jnp.exp(exponents * -jnp.log(10_000.0))


def _side_by_side(angles: Float[Array, "*b w"]) -> Float[Array, "*b d"]:
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
