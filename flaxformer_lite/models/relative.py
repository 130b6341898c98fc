"""Distances between places, and the few kinds of them that relative positions tell apart."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from flaxformer_lite.config.dataclasses import PositionDetailsConfig


def distances(queries: Int[Array, "*b q"], keys: Int[Array, " l"]) -> Int[Array, "*b q l"]:
    """How far each key stands behind each query. Places of a row will do: within a segment they count as positions."""
    return keys - queries[..., None]


def buckets(distances: Int[Array, "*b q l"], details: PositionDetailsConfig, causal: bool) -> Int[Array, "*b q l"]:
    """The number of each distance's bucket.

    Half of them are of one distance each, the others of ever more, up to ``max_distance``, beyond which is the last one
    (T5's code, after mesh TensorFlow). Where a query sees both sides, each side has half of the buckets.
    """
    if causal:
        return _of_one_side(details.buckets, details.max_distance)[jnp.clip(-distances, 0, details.max_distance)]
    one_side = _of_one_side(details.buckets // 2, details.max_distance)
    before = one_side[jnp.minimum(jnp.abs(distances), details.max_distance)]
    return jnp.where(distances > 0, before + details.buckets // 2, before)


def _of_one_side(count: int, longest: int) -> Int[Array, " l"]:
    """The bucket of each distance up to the longest; by NumPy, or its bounds would depend on a device's logarithm."""
    exact, each = count // 2, np.arange(longest + 1)
    share = np.log(np.maximum(each, 1).astype(np.float32) / exact) / np.float32(np.log(longest / exact))
    rough = exact + (share * np.float32(count - exact)).astype(np.int32)
    return jnp.asarray(np.where(each < exact, each, np.minimum(rough, count - 1)), jnp.int32)
