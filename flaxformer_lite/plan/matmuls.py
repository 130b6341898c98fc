"""FLOPs and memory traffic of the matrix products in a compiled program."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from flaxformer_lite.plan.hlo import Computation, Instruction, Program
from flaxformer_lite.plan.hlo_dataflow import bytes_read, bytes_written


class Matmul(NamedTuple):
    """One matrix product of a compiled program.

    Attributes:
      flops: of one execution.
      bytes: of both factors and the result, in bfloat16 where the model uses it.
      runs: number of executions in one call of the program.
    """

    flops: int
    bytes: int
    runs: int


def read_matmuls(program: Program) -> list[Matmul]:
    """The matrix products of one device."""
    return [
        Matmul(_dot_flops(computation, dot), _dot_bytes(program, computation, dot), runs)
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
