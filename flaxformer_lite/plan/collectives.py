"""Collective communication in a compiled program: bytes, and the mesh axes along which devices exchange them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flaxformer_lite.plan.hlo import Computation, Instruction, Program, read_groups
from flaxformer_lite.plan.hlo_dataflow import all_paths_end_in, bytes_read, bytes_written, is_slice

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    """One collective operation on one array.

    Attributes:
      kind: one of ``KINDS``. An all-reduce of which each device keeps only its slice is a reduce-scatter: the CPU
        compiler leaves two steps where those for GPUs and TPUs emit one.
      axes: mesh axes along which devices communicate; empty where the groups are not mesh axes.
      group: number of devices that communicate with one another.
      per_node: number of devices of a group within one node.
      bytes: of the whole array, in bfloat16 where the model uses it, although a CPU compiler widens it.
      executions: per step.
      op_name: JAX's name of the operation.
    """

    kind: str
    axes: tuple[str, ...]
    group: int
    per_node: int
    bytes: int
    executions: int
    op_name: str

    @property
    def sent(self) -> float:
        """Bytes that each device sends per step, by the best algorithm (a ring)."""
        others = (self.group - 1) / self.group
        factor = {"all-reduce": 2 * others, "collective-permute": 1}.get(self.kind, others)
        return self.executions * self.bytes * factor


def read_collectives(program: Program, mesh: Mapping[str, int], node: int) -> list[Collective]:
    """The collectives in one call of a program.

    Args:
      program: compiled for the devices of the mesh, in order.
      mesh: sizes of the mesh axes, in order.
      node: number of devices per node; consecutive devices of the mesh form a node.
    """
    devices = int(np.prod(list(mesh.values())))
    found = []
    for computation, instruction, runs in program.instructions():
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        groups = read_groups(instruction.rest, devices)
        size = len(groups[0])
        per_node = min(sum(device // node == group[0] // node for device in group) for group in groups)
        axes, op_name = _axes(groups, mesh, kind == "collective-permute"), _op_name(instruction)
        for actual_kind, size_bytes in _bytes_by_kind(instruction, kind, computation, program, devices).items():
            found.append(Collective(actual_kind, axes, size, per_node, size_bytes, runs, op_name))
    return [each for each in found if each.group > 1 and each.bytes]


def by_axes(collectives: Sequence[Collective]) -> dict[tuple[tuple[str, ...], str], list[Collective]]:
    """Groups collectives by axes and kind, those that send most first."""
    groups: dict[tuple[tuple[str, ...], str], list[Collective]] = {}
    for each in sorted(collectives, key=lambda each: -each.sent):
        groups.setdefault((each.axes, each.kind), []).append(each)
    return groups


def _bytes_by_kind(
    instruction: Instruction, kind: str, computation: Computation, program: Program, devices: int
) -> dict[str, int]:
    """Bytes of the whole arrays of one instruction, by their kind of collective."""
    operands = [bytes_read(program, computation, name) for name in instruction.operands]
    if kind == "all-gather":
        (group, *_) = read_groups(instruction.rest, devices)
        return {kind: sum(operands) * len(group)}
    if kind != "all-reduce":
        return {kind: sum(operands)}
    totals: dict[str, int] = {}
    for index, size in enumerate(operands):
        size = min(size, bytes_written(program, computation, instruction, index))
        sliced = all_paths_end_in(program, computation, instruction, index, is_slice)
        name = "reduce-scatter" if sliced else kind
        totals[name] = totals.get(name, 0) + size
    return totals


def _op_name(instruction: Instruction) -> str:
    _, _, rest = instruction.rest.partition('op_name="')
    return rest.partition('"')[0]


def _axes(groups: Sequence[Sequence[int]], mesh: Mapping[str, int], permute: bool) -> tuple[str, ...]:
    """The mesh axes along which members of a group differ; empty where the groups are parts of axes."""
    sizes = list(mesh.values())
    coordinates = np.array(np.unravel_index(np.array(groups), sizes))  # [axis, group, member]
    differs = (coordinates != coordinates[:, :, :1]).any(axis=(1, 2))
    if not permute and np.prod(np.array(sizes)[differs]) != len(groups[0]):  # a permute has pairs, not whole axes
        return ()
    return tuple(axis for axis, along in zip(mesh, differs, strict=True) if along)
