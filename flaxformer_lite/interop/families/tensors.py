"""Which published tensor is which of our parameters, as tables that are read in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Shaped
from numpy import ndarray

from flaxformer_lite.errors import InputError

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """How the numbers of a published tensor lie, told by our parameter's shape.

    Attributes:
      shape: theirs, of ours.
      transposed: whether theirs is the transpose of what ours is when both have the axes of theirs.
    """

    shape: Callable[[Shape], Shape]
    transposed: bool = False

    def ours(self, theirs: Shaped[ndarray, "..."], shape: Shape) -> Shaped[ndarray, "..."]:
        """Our parameter of this shape; a view."""
        return (theirs.T if self.transposed else theirs).reshape(shape)

    def theirs(self, ours: Shaped[ndarray, "..."]) -> Shaped[ndarray, "..."]:
        """Their tensor; a view."""
        shape = self.shape(ours.shape)
        return ours.reshape(shape[::-1]).T if self.transposed else ours.reshape(shape)


SAME = Layout(lambda shape: shape)
MATRIX = Layout(lambda shape: shape[::-1], transposed=True)  # [i o] ↔ [o i]
HEADS_IN = Layout(lambda shape: (shape[1] * shape[2], shape[0]), transposed=True)  # [d h k] ↔ [h·k d]
HEADS_OUT = Layout(lambda shape: (shape[2], shape[0] * shape[1]), transposed=True)  # [h k d] ↔ [d h·k]
HEADS = Layout(lambda shape: (shape[0] * shape[1],))  # [h k] ↔ [h·k]
ROW = Layout(lambda shape: (1, *shape))  # [v] ↔ [1 v]


class Row(NamedTuple):
    """One tensor, or one of each layer: then both names have ``{}`` where its number stands.

    Attributes:
      theirs: its name.
      ours: the parameter's path, such as ``encoder/layers_0/self_attention/query``.
      layout: how they differ.
    """

    theirs: str
    ours: str
    layout: Layout = SAME


def of_attention(projections: Sequence[str], ours: str) -> list[Row]:
    """Weights of an attention, and biases where it has any.

    Args:
      projections: their names for what makes queries, keys, values, and states of these.
      ours: the path of the attention.
    """
    parts = ("query", HEADS_IN, HEADS), ("key", HEADS_IN, HEADS), ("value", HEADS_IN, HEADS), ("out", HEADS_OUT, SAME)
    rows = []
    for theirs, (part, weight, bias) in zip(projections, parts, strict=True):
        rows.append(Row(f"{theirs}.weight", f"{ours}/{part}", weight))
        rows.append(Row(f"{theirs}.bias", f"{ours}/{part}_bias", bias))
    return rows


class Names(NamedTuple):
    """All tensors of a model.

    Attributes:
      rows: where each of our parameters is found in exactly one of them. Rows may be of parameters that we have not.
      aliases: for a tensor's name others that a file may have it by, instead or as well.
      unused: names of tensors, with ``{}`` for numbers, that a file may have and the model does not depend on.
    """

    rows: tuple[Row, ...]
    aliases: Mapping[str, tuple[str, ...]]
    unused: tuple[str, ...] = ()


class Pair(NamedTuple):
    """A tensor and the parameter that it is."""

    theirs: str
    ours: str
    layout: Layout
    shape: Shape  # of ours


def pairs(names: Names, shapes: Mapping[str, Shape]) -> list[Pair]:
    """For each of our parameters, by path, the tensor that it is.

    Raises:
      InputError: a parameter is none of the family's.
    """
    found = []
    for path, shape in shapes.items():
        rows = [(row, match) for row in names.rows if (match := _pattern(row.ours).fullmatch(path))]
        if len(rows) != 1:
            raise InputError(f"{path}: no tensor of this family is this parameter; its models have none such")
        ((row, match),) = rows
        found.append(Pair(row.theirs.format(*match.groups()), path, row.layout, shape))
    return found


def is_unused(names: Names, name: str) -> bool:
    """Whether a file may have this tensor though the model does not depend on it."""
    return any(_pattern(pattern).fullmatch(name) for pattern in names.unused)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{\}", r"(\d+)"))
