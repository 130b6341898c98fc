"""Mapping between the tensors of a pretrained model and the parameters of this package, used in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Shaped
from numpy import ndarray

from flaxformer_lite.errors import InputError

Shape = tuple[int, ...]


class TensorLayout(NamedTuple):
    """How a published tensor is a reshaped or transposed parameter.

    Attributes:
      tensor_shape: the tensor's shape as a function of the parameter's.
      transposed: whether the tensor is the transpose of the parameter reshaped to as many axes.
    """

    tensor_shape: Callable[[Shape], Shape]
    transposed: bool = False

    def to_param(self, tensor: Shaped[ndarray, "..."], shape: Shape) -> Shaped[ndarray, "..."]:
        """The parameter of this shape; a view."""
        return (tensor.T if self.transposed else tensor).reshape(shape)

    def to_tensor(self, param: Shaped[ndarray, "..."]) -> Shaped[ndarray, "..."]:
        """The published tensor; a view."""
        shape = self.tensor_shape(param.shape)
        return param.reshape(shape[::-1]).T if self.transposed else param.reshape(shape)


SAME = TensorLayout(lambda shape: shape)
MATRIX = TensorLayout(lambda shape: shape[::-1], transposed=True)  # [i o] ↔ [o i]
HEADS_IN = TensorLayout(lambda shape: (shape[1] * shape[2], shape[0]), transposed=True)  # [d h k] ↔ [h·k d]
HEADS_OUT = TensorLayout(lambda shape: (shape[2], shape[0] * shape[1]), transposed=True)  # [h k d] ↔ [d h·k]
HEADS = TensorLayout(lambda shape: (shape[0] * shape[1],))  # [h k] ↔ [h·k]
ROW = TensorLayout(lambda shape: (1, *shape))  # [v] ↔ [1 v]


class NameRule(NamedTuple):
    """One tensor and its parameter; with ``{}`` in both names in place of the layer's number, those of all layers.

    Attributes:
      tensor: the published name.
      param: the parameter's path, such as ``encoder/layers_{}/self_attention/query``.
      layout: how they differ.
    """

    tensor: str
    param: str
    layout: TensorLayout = SAME


def attention_rules(projections: Sequence[str], param: str) -> list[NameRule]:
    """Kernels and biases of an attention module.

    Args:
      projections: published names of the projections to queries, keys, values and outputs.
      param: the path of the module.
    """
    parts = ("query", HEADS_IN, HEADS), ("key", HEADS_IN, HEADS), ("value", HEADS_IN, HEADS), ("out", HEADS_OUT, SAME)
    rules = []
    for tensor, (part, kernel, bias) in zip(projections, parts, strict=True):
        rules.append(NameRule(f"{tensor}.weight", f"{param}/{part}", kernel))
        rules.append(NameRule(f"{tensor}.bias", f"{param}/{part}_bias", bias))
    return rules


def dense_rules(tensor: str, param: str) -> list[NameRule]:
    """Kernel and bias of a dense layer."""
    return [NameRule(f"{tensor}.weight", f"{param}/kernel", MATRIX), NameRule(f"{tensor}.bias", f"{param}/bias")]


def norm_rules(tensor: str, param: str) -> list[NameRule]:
    """Gain and bias of a norm."""
    return [NameRule(f"{tensor}.weight", f"{param}/scale"), NameRule(f"{tensor}.bias", f"{param}/bias")]


class NameMap(NamedTuple):
    """All tensors of a model.

    Attributes:
      rules: each parameter matches exactly one of them; some may match no parameter.
      aliases: further names that a file may have for a tensor, instead of its name or beside it.
      unused: names of tensors, with ``{}`` for numbers, that a file may have and the model does not depend on.
    """

    rules: tuple[NameRule, ...]
    aliases: Mapping[str, tuple[str, ...]]
    unused: tuple[str, ...] = ()


class TensorMatch(NamedTuple):
    """A tensor and its parameter, whose shape is ``shape``."""

    tensor: str
    param: str
    layout: TensorLayout
    shape: Shape


def match_params(names: NameMap, shapes: Mapping[str, Shape]) -> list[TensorMatch]:
    """The tensor of each parameter.

    Args:
      names: of the family.
      shapes: of all parameters by path.

    Raises:
      InputError: the family has no such parameter.
    """
    matches = []
    for path, shape in shapes.items():
        found = [(rule, match) for rule in names.rules if (match := _pattern(rule.param).fullmatch(path))]
        if len(found) != 1:
            raise InputError(path, "models of this family have no such parameter")
        ((rule, match),) = found
        matches.append(TensorMatch(rule.tensor.format(*match.groups()), path, rule.layout, shape))
    return matches


def is_unused(names: NameMap, tensor: str) -> bool:
    """Whether a file may have this tensor though the model does not depend on it."""
    return any(_pattern(name).fullmatch(tensor) for name in names.unused)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{\}", r"(\d+)"))
