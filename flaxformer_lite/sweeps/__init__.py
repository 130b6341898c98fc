"""Many runs of one config: a sweep file says what changes, ``flaxformer-lite sweep`` runs it.

For sweep files; none of it needs jax.
"""

from __future__ import annotations

import os

from flaxformer_lite.sweeps.distributions import Choice, Integers, LogUniform, Uniform, grid, random_draws, zipped

# submitit, imported after this, would set up logging anew, and close the handlers of all others.
os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")

__all__ = ["Choice", "Integers", "LogUniform", "Uniform", "grid", "random_draws", "zipped"]
