"""Where in its sentence a token stands, as a vector."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.types import AnyArray


def sinusoidal(positions: Int[AnyArray, "*b"], width: int) -> Float[Array, "*b d"]:
    """Sines and cosines of ``width / 2`` wavelengths from 2π to 10000 · 2π, interleaved.

    Vaswani et al. (2017), section 3.5. Any position has one: no largest length is built in.
    """
    rates = jnp.exp(jnp.arange(0, width, 2) * (-jnp.log(10_000.0) / width))
    angles = positions[..., None] * rates
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(*positions.shape, width)
