"""How far the layers of a stack see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.models.attention import Sight
from flaxformer_lite.models.halves import Half

FAR = 2**30  # tokens that no row has


def reaches(config: ModelConfig, half: Half) -> tuple[int, ...]:
    """For each layer the distance from which on it sees nothing: ``attention.pattern``, over and over.

    A window of w is the place itself and w - 1 before it; where both sides are seen, it and w on either side (T5Gemma,
    Zhang et al. 2025, and its code).
    """
    window = config.attention.window + (0 if half.causal else 1)
    of_kind = {"full": FAR, "window": window}
    pattern = config.attention.pattern
    return tuple(of_kind[pattern[number % len(pattern)]] for number in range(half.num_layers))


def narrowed(sight: Sight, reach: Any) -> Sight:
    """The sight of a layer that reaches so far."""
    return sight._replace(mask=sight.mask & (jnp.abs(sight.distances) < reach))


def narrower(config: ModelConfig) -> Callable[[Sight, Any], Sight]:
    """What makes the sight of a layer out of that of all, and its reach."""
    return narrowed if config.attention.window else _unnarrowed


def _unnarrowed(sight: Sight, reach: Any) -> Sight:
    """The sight of a layer where all see everything."""
    del reach
    return sight
