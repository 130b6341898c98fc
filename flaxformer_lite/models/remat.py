"""Layers of which less is kept for the gradient and more is computed again (Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

_KEPT = {
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_with_no_batch_dims": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def rematerialised(function: Callable[..., Any], policy: str) -> Callable[..., Any]:
    """The same function of (module, arrays), of which the gradient keeps what the policy says, beside the arrays."""
    return function if policy == "none" else nn.remat(function, policy=_KEPT[policy])
