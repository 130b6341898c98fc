"""Layouts of a Transformer's layers: one subtree per layer, or stacked along a leading axis for a scan."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from flaxformer_lite.models.transformer import scan


def is_stacked(tree: Any) -> bool:
    """Whether a tree has stacked layers."""
    return any(getattr(key, "key", None) == "layers" for path, _ in jax.tree.leaves_with_path(tree) for key in path)


def shapes_in_layout(like: Any, stacked: bool) -> Any:
    """``jax.ShapeDtypeStruct`` with sharding of the same arrays, with or without stacked layers."""
    return scan.stack_layers(like, _stack_shapes) if stacked else scan.unstack_layers(like, _unstack_shape)


def to_layout_of(like: Any, tree: Any) -> Any:
    """A tree with layers as in ``like``, and with its shardings."""
    if jax.tree.structure(tree) == jax.tree.structure(like):
        return tree
    change = scan.stack_layers if is_stacked(like) else scan.unstack_layers
    return jax.jit(change, out_shardings=jax.tree.map(lambda array: array.sharding, like))(tree)


def to_separate_layers(tree: Any) -> Any:
    """Parameters with one subtree per layer, which decoding needs."""
    return _unstack(tree) if is_stacked(tree) else tree


_unstack = jax.jit(scan.unstack_layers)


def _stack_shapes(layers: list[jax.ShapeDtypeStruct]) -> jax.ShapeDtypeStruct:
    first: Any = layers[0]
    sharding = NamedSharding(first.sharding.mesh, PartitionSpec(None, *first.sharding.spec))
    return jax.ShapeDtypeStruct((len(layers), *first.shape), first.dtype, sharding=sharding)


def _unstack_shape(layers: Any, _: int) -> jax.ShapeDtypeStruct:
    sharding = NamedSharding(layers.sharding.mesh, PartitionSpec(*layers.sharding.spec[1:]))
    return jax.ShapeDtypeStruct(layers.shape[1:], layers.dtype, sharding=sharding)
