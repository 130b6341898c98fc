"""Where values of a compiled program come from and what becomes of them.

A CPU's compiler knows few tricks of those for GPUs and TPUs: it has no collectives and products of bfloat16, so it
widens what goes into them and narrows what comes out; and where each device needs but its part of a sum, it sums all
and slices. Here is seen through that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from flaxformer_lite.plan.hlo import Computation, Instruction, Program

_PASSES_ON = ("bitcast", "copy", "transpose", "convert", "reshape")
_NARROW = ("bf16", "f16")

Ends = Callable[[Instruction], bool]


def bytes_read(program: Program, computation: Computation, name: str) -> int:
    """Of an operand, in the dtype that it had before it was widened."""
    wide = computation[name].bytes
    return wide // 2 if _comes_from_narrow(program, computation, computation[name]) else wide


def bytes_written(program: Program, computation: Computation, instruction: Instruction, place: int) -> int:
    """Of one result, in the dtype that it has once it is narrowed."""
    wide = instruction.shapes[place].bytes
    return wide // 2 if all_become(program, computation, instruction, place, _narrows) else wide


def slices(user: Instruction) -> bool:
    """Whether a part is cut out."""
    return user.opcode == "dynamic-slice"


def all_become(program: Program, computation: Computation, instruction: Instruction, place: int, ends: Ends) -> bool:
    """Whether every way of one result leads to an instruction such as ``ends`` says, and none elsewhere."""
    users = list(_users(computation, instruction.name))
    if len(instruction.shapes) > 1:
        users = [user for user in users if user.opcode == "get-tuple-element" and _index(user) == place]
        return bool(users) and all(_leads(program, computation, user, ends) for user in users)
    return _leads(program, computation, instruction, ends)


def _leads(program: Program, computation: Computation, instruction: Instruction, ends: Ends) -> bool:
    users = list(_users(computation, instruction.name))
    if not users and instruction is _root(computation):
        caller = program.callers.get(id(computation))
        return caller is not None and _leads(program, *caller, ends)
    return bool(users) and all(_ends(program, computation, user, instruction.name, ends) for user in users)


def _ends(program: Program, computation: Computation, user: Instruction, name: str, ends: Ends) -> bool:
    if user.operands[0] == name and ends(user):
        return True
    if user.opcode in _PASSES_ON:
        return _leads(program, computation, user, ends)
    if user.opcode != "fusion":
        return False
    inside = program.computations[called(user)]
    places = [place for place, operand in enumerate(user.operands) if operand == name]
    return all(_leads(program, inside, _parameters(inside)[place], ends) for place in places)


def _comes_from_narrow(program: Program, computation: Computation, instruction: Instruction) -> bool:
    if instruction.opcode == "fusion":
        inside = program.computations[called(instruction)]
        return _comes_from_narrow(program, inside, _root(inside))
    if instruction.opcode == "parameter":
        caller = program.callers.get(id(computation))
        if caller is None:
            return False
        outside, fusion = caller
        return _comes_from_narrow(program, outside, outside[fusion.operands[int(instruction.operands[0])]])
    if instruction.opcode not in _PASSES_ON:
        return False
    source = computation[instruction.operands[0]]
    if source.shapes[0].dtype in _NARROW and instruction.shapes[0].dtype == "f32":
        return True
    return _comes_from_narrow(program, computation, source)


def _narrows(user: Instruction) -> bool:
    return user.opcode == "convert" and user.shapes[0].dtype in _NARROW


def called(fusion: Instruction) -> str:
    """The computation of a fusion."""
    name = re.search(r"calls=%?([\w.\-]+)", fusion.rest)
    return name[1] if name else ""


def _users(computation: Computation, name: str) -> Iterator[Instruction]:
    return (each for each in computation.values() if name in each.operands)


def _parameters(computation: Computation) -> dict[int, Instruction]:
    return {int(each.operands[0]): each for each in computation.values() if each.opcode == "parameter"}


def _root(computation: Computation) -> Instruction:
    return next(reversed(computation.values()))


def _index(instruction: Instruction) -> int:
    return int(instruction.rest.split("index=")[1].split(",")[0])
