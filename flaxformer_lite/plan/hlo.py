"""Reads the text of a compiled program: which instructions it has, and how often each is run."""

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
    """Of an array: the dtype as XLA writes it, such as ``bf16``, and its sizes."""

    dtype: str
    sizes: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many there are."""
        return math.prod(self.sizes)

    @property
    def bytes(self) -> int:
        """What they take in memory."""
        bits = _BITS.get(self.dtype) or int(re.sub(r"^[a-z]+(\d+).*", r"\1", self.dtype) or 0)
        return self.elements * bits // 8 if self.dtype not in ("token", "opaque") else 0


class Instruction(NamedTuple):
    """One line of a program.

    Attributes:
      name: within its computation.
      opcode: such as ``dot``.
      shapes: of its results: several where it gives a tuple.
      operands: names of instructions of the same computation; of a parameter its number.
      rest: what stands behind the operands: attributes and notes.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    rest: str

    @property
    def bytes(self) -> int:
        """Of all results."""
        return sum(shape.bytes for shape in self.shapes)


Computation = dict[str, Instruction]  # by name, in the order of the text


class Program(NamedTuple):
    """A compiled program, of one device: all devices run the same.

    Attributes:
      computations: by name.
      runs: how often each of them is run in a call of the program.
      callers: of the computation of each fusion, by its identity: where the fusion stands, and the fusion.
      endless: loops whose number of rounds the compiler does not know; their bodies are counted once.
    """

    computations: Mapping[str, Computation]
    runs: Mapping[str, int]
    callers: Mapping[int, tuple[Computation, Instruction]]
    endless: tuple[str, ...]

    def instructions(self) -> Iterator[tuple[Computation, Instruction, int]]:
        """Each instruction with the computation it stands in and how often it is run."""
        for name, computation in self.computations.items():
            if runs := self.runs.get(name, 0):
                for instruction in computation.values():
                    yield computation, instruction, runs


def read_program(text: str) -> Program:
    """Reads what ``jax.stages.Compiled.as_text`` gives."""
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
    runs, endless = _count_runs(computations, entry)
    callers = {
        id(computations[called[1]]): (computation, instruction)
        for computation in computations.values()
        for instruction in computation.values()
        if instruction.opcode == "fusion" and (called := _CALLED.search(instruction.rest))
    }
    return Program(computations, runs, callers, endless)


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
    """Where the parenthesis that opens at this place closes."""
    depth = 0
    for bracket in re.compile(r"[()]").finditer(text, opens):
        depth += 1 if bracket[0] == "(" else -1
        if not depth:
            return bracket.start()
    raise ValueError(f"no closing parenthesis: {text[opens : opens + 80]}")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _count_runs(computations: Mapping[str, Computation], entry: str) -> tuple[dict[str, int], tuple[str, ...]]:
    """How often each computation is run: callers stand behind what they call, so the text is read from its end."""
    runs: Counter[str] = Counter({entry: 1})
    endless = []
    for name in reversed(list(computations)):
        times = runs[name]
        for instruction in computations[name].values() if times else ():
            called = _CALLED.findall(instruction.rest)
            for branches in _BRANCHES.findall(instruction.rest):
                called += re.findall(r"[\w.\-]+", branches)
            rounds = 1
            if instruction.opcode == "while":
                trips = _TRIPS.search(instruction.rest)
                rounds = int(trips[1]) if trips else 1
                called += _BODY.findall(instruction.rest)
                endless += [] if trips else [instruction.name]
            for other in called:
                runs[other] += times * rounds
    return dict(runs), tuple(endless)


def read_groups(rest: str, devices: int) -> tuple[tuple[int, ...], ...]:
    """The groups of devices of a collective, written in any of XLA's ways.

    Explicit ``{{0,1},{2,3}}``; an iota ``[2,4]<=[4,2]T(1,0)``, the numbers from 0 laid out as ``[4,2]``, transposed and
    cut into two rows of four; axes of a mesh ``mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}``, where an axis may
    be cut: ``'b':(2)2`` is the part of size 2 inside of a part of size 2. Nothing, or ``{}``: all devices.
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
    """Of ``[4,2]T(1,0)``."""
    sizes, _, order = text.partition("]")
    numbers = np.arange(math.prod(_numbers(sizes[1:]))).reshape(_numbers(sizes[1:]))
    return numbers.transpose(_numbers(order[2:-1])) if order else numbers


def _mesh_groups(axes: str, ids: str, over: str) -> tuple[tuple[int, ...], ...]:
    sizes = {name: int(size) for name, size in re.findall(r"'?([\w.]+)'?=(\d+)", axes)}
    flat = _iota(ids) if ids.startswith("[") else np.array(_numbers(ids) or range(math.prod(sizes.values())))
    shape: list[int] = []  # of the mesh, cut axes as several
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
