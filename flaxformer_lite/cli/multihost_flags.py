"""The flags with which a command runs as several processes."""

from __future__ import annotations

import argparse
import re

from flaxformer_lite.errors import InputError
from flaxformer_lite.system import multihost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags; without them a command is one process."""
    group = parser.add_argument_group(
        "several processes",
        "Each runs the same command; docs/launch.md says how to start them. Where Slurm, Open MPI or Cloud TPU starts\n"
        "them, --distributed is all there is to say; elsewhere the next three say it.",
    )
    group.add_argument("--distributed", action="store_true", help="there are several, as the cluster says")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where they meet: a free port of process 0's machine")
    group.add_argument("--processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process", type=int, metavar="I", help="which this is, from 0")
    group.add_argument(
        "--join_timeout", type=int, default=300, metavar="SECONDS", help="wait so long for all to come (default: 300)"
    )
    group.add_argument(
        "--heartbeat_timeout",
        type=int,
        default=50,
        metavar="SECONDS",
        help="when one gives no sign of life for so long, all end (default: 50)",
    )


def join(arguments: argparse.Namespace) -> None:
    """Meets the other processes, if there are any.

    Raises:
      InputError: the flags do not say how.
    """
    place = _place(arguments)
    for name in ("join_timeout", "heartbeat_timeout"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name}={getattr(arguments, name)}: must be at least 1")
    if place or arguments.distributed:
        multihost.join(place, arguments.join_timeout, arguments.heartbeat_timeout)


def _place(arguments: argparse.Namespace) -> multihost.ProcessPlace | None:
    named = {name: getattr(arguments, name) for name in ("coordinator", "processes", "process")}
    missing = [f"--{name}" for name, value in named.items() if value is None]
    if len(missing) == len(named):
        return None
    if missing:
        raise InputError(f"{' and '.join(missing)}: missing; --coordinator, --processes and --process go together")
    address, count, index = named.values()
    if not re.fullmatch(r".+:\d{1,5}", address):
        raise InputError(f"--coordinator={address}: must be HOST:PORT, such as 10.0.0.1:12345")
    if count < 1:
        raise InputError(f"--processes={count}: must be at least 1")
    if not 0 <= index < count:
        raise InputError(f"--process={index}: must be from 0 to {count - 1}, of --processes={count}")
    return multihost.ProcessPlace(address, count, index)
