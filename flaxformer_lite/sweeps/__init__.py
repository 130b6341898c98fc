"""Many runs of one config: a sweep file says what changes, ``flaxformer-lite sweep`` runs it.

For sweep files; none of it needs jax.
"""

from __future__ import annotations

from flaxformer_lite.sweeps.spaces import (
    Choice,
    Integers,
    LogUniform,
    Uniform,
    grid,
    random_draws,
    zipped,
)

__all__ = ["Choice", "Integers", "LogUniform", "Uniform", "grid", "random_draws", "zipped"]
