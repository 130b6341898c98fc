"""What devices tell one another in a compiled program: how many bytes, along which axes of the mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flaxformer_lite.plan.dataflow import all_become, bytes_read, bytes_written, slices
from flaxformer_lite.plan.hlo import Computation, Instruction, Program, read_groups

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    """One exchange of one array.

    Attributes:
      kind: of ``KINDS``. Where every device keeps but its own part of an all-reduce, it is called reduce-scatter: a
        CPU's compiler leaves the two steps, those of GPUs and TPUs make one of them.
      axes: of the mesh, along which devices exchange; empty: groups that are no axes of it.
      group: devices that exchange with one another.
      spread: devices of one group that lie within one node.
      bytes: of the whole array: what is gathered, what is summed, what is permuted. In bfloat16 where the model is,
        though a CPU's compiler widens it.
      times: how often in one step.
      what: the operation of the model that it belongs to, as JAX names it.
    """

    kind: str
    axes: tuple[str, ...]
    group: int
    spread: int
    bytes: int
    times: int
    what: str

    @property
    def moved(self) -> float:
        """Bytes that each device sends in one step, by the best algorithm (a ring)."""
        share = (self.group - 1) / self.group
        factor = {"all-reduce": 2 * share, "collective-permute": 1}.get(self.kind, share)
        return self.times * self.bytes * factor


def read_collectives(program: Program, mesh: Mapping[str, int], node: int) -> list[Collective]:
    """All that devices tell one another in one call of a program.

    Args:
      program: compiled for the devices of the mesh, in its order.
      mesh: sizes of the axes, in order.
      node: number of devices of a node; the first so many devices of the mesh are one.
    """
    devices = int(np.prod(list(mesh.values())))
    found = []
    for computation, instruction, runs in program.instructions():
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        groups = read_groups(instruction.rest, devices)
        size = len(groups[0])
        spread = min(sum(device // node == group[0] // node for device in group) for group in groups)
        axes, what = _axes(groups, mesh, kind == "collective-permute"), _what(instruction)
        for of_kind, amount in _arrays(instruction, kind, computation, program, devices).items():
            found.append(Collective(of_kind, axes, size, spread, amount, runs, what))
    return [each for each in found if each.group > 1 and each.bytes]


def by_axes(collectives: Sequence[Collective]) -> dict[tuple[tuple[str, ...], str], list[Collective]]:
    """The same sorted by axes and kind, those that move most first."""
    sorted_: dict[tuple[tuple[str, ...], str], list[Collective]] = {}
    for each in sorted(collectives, key=lambda each: -each.moved):
        sorted_.setdefault((each.axes, each.kind), []).append(each)
    return sorted_


def _arrays(
    instruction: Instruction, kind: str, computation: Computation, program: Program, devices: int
) -> dict[str, int]:
    """Bytes of the whole arrays that one instruction exchanges, by what it is of ``KINDS``."""
    operands = [bytes_read(program, computation, name) for name in instruction.operands]
    if kind == "all-gather":
        (group, *_) = read_groups(instruction.rest, devices)
        return {kind: sum(operands) * len(group)}
    if kind != "all-reduce":
        return {kind: sum(operands)}
    sums: dict[str, int] = {}
    for place, amount in enumerate(operands):
        amount = min(amount, bytes_written(program, computation, instruction, place))
        name = "reduce-scatter" if all_become(program, computation, instruction, place, slices) else kind
        sums[name] = sums.get(name, 0) + amount
    return sums


def _what(instruction: Instruction) -> str:
    _, _, behind = instruction.rest.partition('op_name="')
    return behind.partition('"')[0]


def _axes(groups: Sequence[Sequence[int]], mesh: Mapping[str, int], pairs: bool) -> tuple[str, ...]:
    """The axes along which members of a group differ; none if the groups are not whole axes, nor ``pairs`` of a few."""
    sizes = list(mesh.values())
    places = np.array(np.unravel_index(np.array(groups), sizes))  # [axis, group, member]
    differs = (places != places[:, :, :1]).any(axis=(1, 2))
    if not pairs and np.prod(np.array(sizes)[differs]) != len(groups[0]):
        return ()
    return tuple(axis for axis, along in zip(mesh, differs, strict=True) if along)
