"""Floating-point operations of the matrix products of a traced function.

Everything else that a model computes is a few operations per element, against hundreds in a product; it is not counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from jax.extend import core


def count_flops(jaxpr: core.ClosedJaxpr | core.Jaxpr) -> Counter[str]:
    """FLOPs of all products of a traced function over all devices, by dtype of the factors; 2 for each multiply-add.

    The most expensive branch of a ``cond`` counts. The body of a ``while`` loop counts once, because its number of
    iterations is unknown; a training step has none that contains products (the length of a ``scan`` is known).
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
    """The jaxprs among an equation's parameters."""
    if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _jaxprs(each)
