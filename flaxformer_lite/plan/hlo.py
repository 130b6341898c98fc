"""Parser of the HLO text of a compiled program, with execution counts of its instructions."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BODY = re.compile(r"body=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "token": 0, "opaque": 0}


class Shape(NamedTuple):
    """Dtype in XLA's notation, such as ``bf16``, and sizes of an array."""

    dtype: str
    sizes: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.sizes)

    @property
    def bytes(self) -> int:
        bits = _BITS.get(self.dtype) or int(re.sub(r"^[a-z]+(\d+).*", r"\1", self.dtype) or 0)
        return self.elements * bits // 8 if self.dtype not in ("token", "opaque") else 0


class Instruction(NamedTuple):
    """One line of a program.

    Attributes:
      name: unique within its computation.
      opcode: such as ``dot``.
      shapes: of its results; several for a tuple.
      operands: names of instructions of the same computation; for a parameter its number.
      rest: attributes and metadata after the operands.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    rest: str

    @property
    def bytes(self) -> int:
        return sum(shape.bytes for shape in self.shapes)


Computation = dict[str, Instruction]  # by name, in the order of the text


class Program(NamedTuple):
    """A compiled program of one device (SPMD: all devices run the same).

    Attributes:
      computations: by name.
      runs: number of executions of each computation per call of the program.
      callers: for the computation of each fusion, by its ``id``, the computation that contains the fusion, and it.
      unbounded_loops: loops with an unknown number of iterations; their bodies are counted once.
    """

    computations: Mapping[str, Computation]
    runs: Mapping[str, int]
    callers: Mapping[int, tuple[Computation, Instruction]]
    unbounded_loops: tuple[str, ...]

    def instructions(self) -> Iterator[tuple[Computation, Instruction, int]]:
        """Each instruction with its computation and its number of executions."""
        for name, computation in self.computations.items():
            if runs := self.runs.get(name, 0):
                for instruction in computation.values():
                    yield computation, instruction, runs


def read_program(text: str) -> Program:
    """Parses the text of ``jax.stages.Compiled.as_text``."""
    computations: dict[str, Computation] = {}
    current: Computation = {}
    entry = ""
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations[head[2]] = {}
            entry = head[2] if head[1] else entry
        elif _INSTRUCTION.match(line):
            instruction = _read_instruction(line)
            current[instruction.name] = instruction
    runs, unbounded = _count_runs(computations, entry)
    callers = {
        id(computations[called[1]]): (computation, instruction)
        for computation in computations.values()
        for instruction in computation.values()
        if instruction.opcode == "fusion" and (called := _CALLED.search(instruction.rest))
    }
    return Program(computations, runs, callers, unbounded)


def _read_instruction(line: str) -> Instruction:
    head = _INSTRUCTION.match(line)
    assert head
    rest = line[head.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    opens = rest.index("(", end)
    closes = _closing(rest, opens)
    shapes = tuple(Shape(kind, _numbers(sizes)) for kind, sizes in _SHAPE.findall(rest[:end]))
    opcode, given = rest[end:opens].strip(), rest[opens + 1 : closes]
    operands = (given,) if opcode == "parameter" else tuple(re.findall(r"%([\w.\-]+)", given))
    return Instruction(head[2], opcode, shapes, operands, rest[closes + 1 :])


def _closing(text: str, opens: int) -> int:
    """The position of the parenthesis that closes the one at this position."""
    depth = 0
    for bracket in re.compile(r"[()]").finditer(text, opens):
        depth += 1 if bracket[0] == "(" else -1
        if not depth:
            return bracket.start()
    raise ValueError(f"no closing parenthesis: {text[opens : opens + 80]}")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _count_runs(computations: Mapping[str, Computation], entry: str) -> tuple[dict[str, int], tuple[str, ...]]:
    """Executions of each computation; callers follow the computations that they call, so the order is reversed."""
    runs: Counter[str] = Counter({entry: 1})
    unbounded = []
    for name in reversed(list(computations)):
        times = runs[name]
        for instruction in computations[name].values() if times else ():
            called = _CALLED.findall(instruction.rest)
            for branches in _BRANCHES.findall(instruction.rest):
                called += re.findall(r"[\w.\-]+", branches)
            iterations = 1
            if instruction.opcode == "while":
                trips = _TRIPS.search(instruction.rest)
                iterations = int(trips[1]) if trips else 1
                called += _BODY.findall(instruction.rest)
                unbounded += [] if trips else [instruction.name]
            for other in called:
                runs[other] += times * iterations
    return dict(runs), tuple(unbounded)


def read_groups(rest: str, devices: int) -> tuple[tuple[int, ...], ...]:
    """Parses the device groups of a collective, in all of XLA's notations.

    Explicit ``{{0,1},{2,3}}``; an iota ``[2,4]<=[4,2]T(1,0)``, the numbers from 0 reshaped to ``[4,2]``, transposed and
    reshaped to two rows of four; axes of a mesh ``mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}``, where an axis
    may be split: ``'b':(2)2`` is the part of size 2 inside a part of size 2. Nothing, or ``{}``: all devices.
    """
    if pairs := re.search(r"source_target_pairs=\{(\{.*?\})\}", rest):
        return tuple(map(_numbers, re.findall(r"\{([\d,]+)\}", pairs[1])))
    if mesh := re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?)\) | )\{(.*?)\}", rest):
        return _mesh_groups(mesh[1], mesh[2] or "", mesh[3])
    if iota := re.search(r"replica_groups=(\[[\d,]+\])<=(\[[\d,]+\](?:T\([\d,]+\))?)", rest):
        return _rows(_iota(iota[2]).reshape(_numbers(iota[1][1:-1])))
    explicit = re.search(r"replica_groups=\{((?:\{[\d,]*\},?)+)\}", rest)
    groups = re.findall(r"\{([\d,]+)\}", explicit[1]) if explicit else []
    return tuple(map(_numbers, groups)) or (tuple(range(devices)),)


def _iota(text: str) -> np.ndarray:
    """The device numbers of an iota such as ``[4,2]T(1,0)``."""
    sizes, _, order = text.partition("]")
    numbers = np.arange(math.prod(_numbers(sizes[1:]))).reshape(_numbers(sizes[1:]))
    return numbers.transpose(_numbers(order[2:-1])) if order else numbers


def _mesh_groups(axes: str, ids: str, over: str) -> tuple[tuple[int, ...], ...]:
    sizes = {name: int(size) for name, size in re.findall(r"'?([\w.]+)'?=(\d+)", axes)}
    flat = _iota(ids) if ids.startswith("[") else np.array(_numbers(ids) or range(math.prod(sizes.values())))
    shape: list[int] = []  # of the mesh, split axes as several
    chosen = []
    for name, size in sizes.items():
        part = re.search(rf"'?{re.escape(name)}'?(?::\((\d+)\)(\d+))?(?:,|$)", over)
        if part and part[1]:
            before, own = int(part[1]), int(part[2])
            chosen.append(len(shape) + 1)
            shape += [before, own, size // before // own]
        else:
            chosen += [len(shape)] if part else []
            shape.append(size)
    others = [axis for axis in range(len(shape)) if axis not in chosen]
    size = math.prod(shape[axis] for axis in chosen)
    return _rows(flat.reshape(shape).transpose([*others, *chosen]).reshape(-1, size))


def _rows(groups: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(device) for device in group) for group in groups)
