"""Rematerialization: activations that are recomputed for the gradient instead of stored (Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

_POLICIES = {
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_with_no_batch_dims": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def rematerialize(function: Callable[..., Any], policy: str) -> Callable[..., Any]:
    """The function of (module, arrays), which stores for the gradient only what ``policy`` (``model.remat``) allows."""
    return function if policy == "none" else nn.remat(function, policy=_POLICIES[policy])
