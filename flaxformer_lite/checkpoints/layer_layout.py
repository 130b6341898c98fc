"""The two forms that a Transformer's layers are kept in: one by one, or side by side where they are scanned."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from flaxformer_lite.models.transformer.scan import stack_layers, unstack_layers


def are_side_by_side(tree: Any) -> bool:
    """Whether a tree has layers side by side."""
    return any(getattr(key, "key", None) == "layers" for path, _ in jax.tree.leaves_with_path(tree) for key in path)


def in_form(like: Any, scanned: bool) -> Any:
    """The same arrays as ``jax.ShapeDtypeStruct`` with shardings, side by side or one by one."""
    return stack_layers(like, _joined) if scanned else unstack_layers(like, _parted)


def brought_into(like: Any, tree: Any) -> Any:
    """A tree in the form of ``like``, lying as that says."""
    if jax.tree.structure(tree) == jax.tree.structure(like):
        return tree
    change = side_by_side if are_side_by_side(like) else layer_by_layer
    return jax.jit(change, out_shardings=jax.tree.map(lambda array: array.sharding, like))(tree)


def one_by_one(tree: Any) -> Any:
    """Parameters as decoding takes them."""
    return _one_by_one(tree) if are_side_by_side(tree) else tree


_one_by_one = jax.jit(unstack_layers)


def _joined(layers: list[jax.ShapeDtypeStruct]) -> jax.ShapeDtypeStruct:
    first: Any = layers[0]
    sharding = NamedSharding(first.sharding.mesh, PartitionSpec(None, *first.sharding.spec))
    return jax.ShapeDtypeStruct((len(layers), *first.shape), first.dtype, sharding=sharding)


def _parted(layers: Any, number: int) -> jax.ShapeDtypeStruct:
    del number
    sharding = NamedSharding(layers.sharding.mesh, PartitionSpec(*layers.sharding.spec[1:]))
    return jax.ShapeDtypeStruct(layers.shape[1:], layers.dtype, sharding=sharding)
