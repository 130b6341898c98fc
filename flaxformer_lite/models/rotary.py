"""Vectors turned by the positions that they stand at (Su et al. 2021)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.types import AnyArray


class Turn(NamedTuple):
    """Cosines and sines of angles, one for each pair of elements of a head, and twice: once for each of them."""

    cosines: Float[Array, "*b k"]
    sines: Float[Array, "*b k"]


def turn(positions: Int[AnyArray, "*b"], width: int, theta: float) -> Turn:
    """The angles of positions: ``position · theta ** (-2 i / width)`` for pair i, which elements i and i + width/2 are.

    Su et al. (2021, equation 15) pair neighbours; that halves are paired is the layout of published weights.
    """
    angles = positions[..., None] * theta ** -(jnp.arange(0, width, 2) / width)
    angles = jnp.concatenate([angles, angles], axis=-1)
    return Turn(jnp.cos(angles), jnp.sin(angles))


def turned(x: Float[Array, "*b h k"], turns: tuple[Turn, ...]) -> Float[Array, "*b h k"]:
    """Heads x of each place, turned by each of the turns, in the dtype of x."""
    for cosines, sines in turns:
        first, second = jnp.split(x, 2, axis=-1)
        across = jnp.concatenate([-second, first], axis=-1)
        x = x * cosines[..., None, :].astype(x.dtype) + across * sines[..., None, :].astype(x.dtype)
    return x
