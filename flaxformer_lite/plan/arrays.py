"""What arrays take on each device: exact, from shapes and shardings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax


class Parameter(NamedTuple):
    """One parameter.

    Attributes:
      name: where it stands in the model, such as ``encoder/layers_0/feed_forward/up/kernel``.
      shape: sizes of its axes.
      dtype: of its elements.
      division: for each axis the axes of the mesh that divide it, such as ``fsdp``; "" where nothing does.
      bytes: of the whole.
      device_bytes: of what each device holds.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    division: tuple[str, ...]
    bytes: int
    device_bytes: int


def read_parameters(shapes: Any) -> list[Parameter]:
    """The parameters of a state as ``MeshLayout.shapes`` gives it."""
    found = []
    for path, array in jax.tree_util.tree_leaves_with_path(shapes):
        names = [str(getattr(key, "key", key)) for key in path]
        held = array.sharding.shard_shape(array.shape)
        spec = [*array.sharding.spec, *[None] * array.ndim]
        division = tuple(
            "" if whole == part else axes if isinstance(axes, str) else "+".join(axes)
            for whole, part, axes in zip(array.shape, held, spec, strict=False)
        )
        all_of_it = math.prod(array.shape) * array.dtype.itemsize
        found.append(
            Parameter("/".join(names), array.shape, str(array.dtype), division, all_of_it, bytes_per_device(array))
        )
    return found


def bytes_per_device(shapes: Any) -> int:
    """Of all arrays of a tree of ``jax.ShapeDtypeStruct`` with shardings."""
    return sum(
        math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize for array in jax.tree.leaves(shapes)
    )


class Group(NamedTuple):
    """Parameters that are alike but for the number of their layer.

    Attributes:
      name: with ``*`` where they differ.
      members: how many they are.
      first: one of them.
    """

    name: str
    members: int
    first: Parameter


def fold_layers(parameters: Iterable[Parameter]) -> list[Group]:
    """Folds the layers of a model into one another: ``layers_0/bias`` and ``layers_1/bias`` are ``layers_*/bias``."""
    groups: dict[tuple[Any, ...], list[Parameter]] = {}
    for parameter in parameters:
        name = re.sub(r"_\d+(?=/)", "_*", parameter.name)
        groups.setdefault((name, *parameter[1:]), []).append(parameter)
    return [
        Group(key[0] if len(members) > 1 else members[0].name, len(members), members[0])
        for key, members in groups.items()
    ]
