"""Floating-point operations of matrix products: of a traced function, and of each device's share of a compiled one.

Everything else that a model computes is a few operations an element, against hundreds in a product; it is not counted.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from jax.extend import core

from flaxformer_lite.plan.dataflow import bytes_read, bytes_written
from flaxformer_lite.plan.hlo import Computation, Instruction, Program


def count_flops(jaxpr: core.ClosedJaxpr | core.Jaxpr) -> Counter[str]:
    """Of all products that a traced function takes over all devices, loops included: 2 for each multiply-add.

    Of branches the dearest counts. A ``while`` loop's body counts once, since nobody knows how often it runs; a
    training step has none that holds products (``scan`` says its length).

    Returns:
      FLOPs by the dtype of the factors.
    """
    total: Counter[str] = Counter()
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        inner = [count_flops(other) for value in equation.params.values() for other in _jaxprs(value)]
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left: Any = equation.invars[0].aval
            result: Any = equation.outvars[0].aval
            depth = math.prod(left.shape[axis] for axis in contracted)
            total[str(left.dtype)] += 2 * math.prod(result.shape) * depth
        elif equation.primitive.name == "cond":
            total += max(inner, key=Counter.total)
        else:
            rounds = equation.params["length"] if equation.primitive.name == "scan" else 1
            for each in inner:
                total += Counter({dtype: rounds * flops for dtype, flops in each.items()})
    return total


def _jaxprs(value: Any) -> Iterator[Any]:
    """The traced functions among an equation's parameters."""
    if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _jaxprs(each)


class Product(NamedTuple):
    """One matrix product of a compiled program.

    Attributes:
      flops: of one run.
      bytes: of both factors and the result, in bfloat16 where the model is.
      runs: how often it is taken in one call of the program.
    """

    flops: int
    bytes: int
    runs: int


def read_products(program: Program) -> list[Product]:
    """The matrix products that one device takes."""
    return [
        Product(_dot_flops(computation, dot), _dot_bytes(program, computation, dot), runs)
        for computation, dot, runs in program.instructions()
        if dot.opcode == "dot"
    ]


def _dot_bytes(program: Program, computation: Computation, dot: Instruction) -> int:
    read = sum(bytes_read(program, computation, name) for name in dot.operands)
    return read + bytes_written(program, computation, dot, 0)


def _dot_flops(computation: Computation, dot: Instruction) -> int:
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", dot.rest)
    (left,) = computation[dot.operands[0]].shapes
    contracted = [left.sizes[int(axis)] for axis in axes[1].split(",") if axis] if axes else []
    return 2 * dot.shapes[0].elements * math.prod(contracted)
