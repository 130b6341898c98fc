"""Dataflow analysis of a compiled program: the dtypes and slices that other compilers would use.

The CPU compiler has no collectives and products of bfloat16, so it converts their operands to float32 and their results
back; and where each device needs only its slice of a sum, it computes the whole sum and slices it. Compilers for GPUs
and TPUs do neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from flaxformer_lite.plan.hlo import Computation, Instruction, Program

_PASS_THROUGH = ("bitcast", "copy", "transpose", "convert", "reshape")
_NARROW = ("bf16", "f16")

Predicate = Callable[[Instruction], bool]


def bytes_read(program: Program, computation: Computation, name: str) -> int:
    """Bytes of an operand in its dtype before it was widened."""
    wide = computation[name].bytes
    return wide // 2 if _is_widened(program, computation, computation[name]) else wide


def bytes_written(program: Program, computation: Computation, instruction: Instruction, index: int) -> int:
    """Bytes of one result in its dtype after it is narrowed."""
    wide = instruction.shapes[index].bytes
    return wide // 2 if all_paths_end_in(program, computation, instruction, index, _is_narrowing) else wide


def is_slice(user: Instruction) -> bool:
    """Whether an instruction is a dynamic slice."""
    return user.opcode == "dynamic-slice"


def all_paths_end_in(
    program: Program, computation: Computation, instruction: Instruction, index: int, predicate: Predicate
) -> bool:
    """Whether all uses of one result reach, through data movement only, an instruction that fulfills the predicate."""
    users = list(_users(computation, instruction.name))
    if len(instruction.shapes) > 1:
        users = [user for user in users if user.opcode == "get-tuple-element" and _tuple_index(user) == index]
        return bool(users) and all(_reaches(program, computation, user, predicate) for user in users)
    return _reaches(program, computation, instruction, predicate)


def _reaches(program: Program, computation: Computation, instruction: Instruction, predicate: Predicate) -> bool:
    users = list(_users(computation, instruction.name))
    if not users and instruction is _root(computation):
        caller = program.callers.get(id(computation))
        return caller is not None and _reaches(program, *caller, predicate)
    return bool(users) and all(_use_reaches(program, computation, user, instruction.name, predicate) for user in users)


def _use_reaches(
    program: Program, computation: Computation, user: Instruction, name: str, predicate: Predicate
) -> bool:
    if user.operands[0] == name and predicate(user):
        return True
    if user.opcode in _PASS_THROUGH:
        return _reaches(program, computation, user, predicate)
    if user.opcode != "fusion":
        return False
    fused = program.computations[called_computation(user)]
    indices = [index for index, operand in enumerate(user.operands) if operand == name]
    return all(_reaches(program, fused, _parameters(fused)[index], predicate) for index in indices)


def _is_widened(program: Program, computation: Computation, instruction: Instruction) -> bool:
    if instruction.opcode == "fusion":
        fused = program.computations[called_computation(instruction)]
        return _is_widened(program, fused, _root(fused))
    if instruction.opcode == "parameter":
        caller = program.callers.get(id(computation))
        if caller is None:
            return False
        outer, fusion = caller
        return _is_widened(program, outer, outer[fusion.operands[int(instruction.operands[0])]])
    if instruction.opcode not in _PASS_THROUGH:
        return False
    source = computation[instruction.operands[0]]
    if source.shapes[0].dtype in _NARROW and instruction.shapes[0].dtype == "f32":
        return True
    return _is_widened(program, computation, source)


def _is_narrowing(user: Instruction) -> bool:
    return user.opcode == "convert" and user.shapes[0].dtype in _NARROW


def called_computation(fusion: Instruction) -> str:
    """The name of the computation of a fusion."""
    name = re.search(r"calls=%?([\w.\-]+)", fusion.rest)
    return name[1] if name else ""


def _users(computation: Computation, name: str) -> Iterator[Instruction]:
    return (each for each in computation.values() if name in each.operands)


def _parameters(computation: Computation) -> dict[int, Instruction]:
    return {int(each.operands[0]): each for each in computation.values() if each.opcode == "parameter"}


def _root(computation: Computation) -> Instruction:
    return next(reversed(computation.values()))


def _tuple_index(instruction: Instruction) -> int:
    return int(instruction.rest.split("index=")[1].split(",")[0])
