"""Shapes, shardings and bytes per device of the parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax


class ParameterShards(NamedTuple):
    """One parameter.

    Attributes:
      name: path in the model, such as ``encoder/layers_0/feed_forward/up/kernel``.
      shape: of the whole parameter.
      dtype: of its elements.
      partition: for each axis the mesh axes that divide it, such as ``fsdp``; "" for none.
      bytes: of the whole parameter.
      device_bytes: of one device's shard.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    partition: tuple[str, ...]
    bytes: int
    device_bytes: int


def list_parameters(shapes: Any) -> list[ParameterShards]:
    """Lists the parameters of a tree of ``jax.ShapeDtypeStruct`` with shardings."""
    found = []
    for path, array in jax.tree_util.tree_leaves_with_path(shapes):
        names = [str(getattr(key, "key", key)) for key in path]
        shard = array.sharding.shard_shape(array.shape)
        spec = [*array.sharding.spec, *[None] * array.ndim]
        partition = tuple(
            "" if whole == part else axes if isinstance(axes, str) else "+".join(axes)
            for whole, part, axes in zip(array.shape, shard, spec, strict=False)
        )
        size = math.prod(array.shape) * array.dtype.itemsize
        found.append(
            ParameterShards("/".join(names), array.shape, str(array.dtype), partition, size, bytes_per_device(array))
        )
    return found


def bytes_per_device(shapes: Any) -> int:
    """Bytes of one device's shards of all arrays in a tree of ``jax.ShapeDtypeStruct`` with shardings."""
    return sum(
        math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize for array in jax.tree.leaves(shapes)
    )


class ParameterGroup(NamedTuple):
    """Parameters that are equal except for their layer number.

    Attributes:
      name: with ``*`` in place of the number.
      num_parameters: in the group.
      first: one of them.
    """

    name: str
    num_parameters: int
    first: ParameterShards


def group_layers(parameters: Iterable[ParameterShards]) -> list[ParameterGroup]:
    """Groups equal parameters of all layers: ``layers_0/bias`` and ``layers_1/bias`` become ``layers_*/bias``."""
    groups: dict[tuple[Any, ...], list[ParameterShards]] = {}
    for parameter in parameters:
        name = re.sub(r"_\d+(?=/)", "_*", parameter.name)
        groups.setdefault((name, *parameter[1:]), []).append(parameter)
    return [
        ParameterGroup(key[0] if len(members) > 1 else members[0].name, len(members), members[0])
        for key, members in groups.items()
    ]
