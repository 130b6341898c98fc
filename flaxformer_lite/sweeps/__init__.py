"""Hyperparameter sweeps: a sweep file describes the trials, ``flaxformer-lite sweep`` runs them.

The names below are for sweep files; none of them imports jax.
"""

from __future__ import annotations

import os

from flaxformer_lite.sweeps.distributions import Choice, Integers, LogUniform, Uniform, grid, random_draws, zipped

# Otherwise submitit, when it is imported later, configures logging anew and closes the handlers of all others.
os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")

__all__ = ["Choice", "Integers", "LogUniform", "Uniform", "grid", "random_draws", "zipped"]
