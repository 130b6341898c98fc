"""Flags of commands that run as several processes."""

from __future__ import annotations

import argparse
import re

from flaxformer_lite.errors import InputError, require
from flaxformer_lite.system import multihost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags; without them a command is one process."""
    group = parser.add_argument_group(
        "several processes",
        "Each runs the same command; docs/launch.md describes how to start them. Where Slurm, Open MPI or Cloud TPU\n"
        "starts them, --distributed is sufficient; elsewhere give the next three.",
    )
    group.add_argument("--distributed", action="store_true", help="take the number of processes from the cluster")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="a free port of the machine of process 0")
    group.add_argument("--processes", type=int, metavar="N", help="number of processes")
    group.add_argument("--process", type=int, metavar="I", help="index of this process, from 0")
    group.add_argument(
        "--join_timeout", type=int, default=300, metavar="SECONDS", help="wait so long for all processes (default: 300)"
    )
    group.add_argument(
        "--heartbeat_timeout",
        type=int,
        default=50,
        metavar="SECONDS",
        help="end when a process has not responded for so long (default: 50)",
    )


def join(arguments: argparse.Namespace) -> None:
    """Joins the other processes, if there are any; ``InputError`` where the flags are incomplete."""
    place = _place(arguments)
    for name in ("join_timeout", "heartbeat_timeout"):
        require(getattr(arguments, name) >= 1, f"--{name}={getattr(arguments, name)}", "must be at least 1")
    if place or arguments.distributed:
        try:
            multihost.join(place, arguments.join_timeout, arguments.heartbeat_timeout)
        except InputError as error:
            if place:
                raise error.with_subject(f"--coordinator={place.address}") from error
            remedy = "give --coordinator=HOST:PORT --processes=N --process=I"
            raise InputError("--distributed", error.reason, remedy) from error


def _place(arguments: argparse.Namespace) -> multihost.ProcessPlace | None:
    named = {name: getattr(arguments, name) for name in ("coordinator", "processes", "process")}
    missing = [f"--{name}" for name, value in named.items() if value is None]
    if len(missing) == len(named):
        return None
    if missing:
        reason = "is missing; --coordinator, --processes and --process belong together"
        raise InputError(" and ".join(missing), reason)
    address, count, index = named.values()
    is_address = re.fullmatch(r".+:\d{1,5}", address) is not None
    require(is_address, f"--coordinator={address}", "must be HOST:PORT, such as 10.0.0.1:12345")
    require(count >= 1, f"--processes={count}", "must be at least 1")
    require(0 <= index < count, f"--process={index}", f"must be from 0 to {count - 1}, of --processes={count}")
    return multihost.ProcessPlace(address, count, index)
