"""Say what a run will need on many devices, before any is booked: memory, work, exchanges, time, and what is amiss.

All from shapes: the training step is compiled for devices that need not be there, on a CPU, and nothing is made or
run. Bytes of weights and moments, FLOPs and the exchanges of the compiled program are exact; activations and times are
estimates. docs/scaling.md explains every line.

Examples:
  flaxformer-lite plan --config=configs/vaswani2017.py --devices=8 --chip=h100
  flaxformer-lite plan --config=configs/vaswani2017.py --devices=64 --mesh=data=4,fsdp=8,tensor=2 --json
  flaxformer-lite plan --config=configs/vaswani2017.py --devices=64 --chip=v5e --fit
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING

from flaxformer_lite.cli import config_flags
from flaxformer_lite.errors import InputError

if TYPE_CHECKING:
    from flaxformer_lite.config.dataclasses import Config
    from flaxformer_lite.plan.sizes import Sizes

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``plan``."""
    config_flags.add_arguments(parser)
    parser.add_argument("--devices", type=int, default=8, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument(
        "--mesh",
        default="",
        metavar="AXES",
        help="sizes of the mesh, such as data=4,fsdp=8,tensor=2; -1: all that are left (default: config.mesh)",
    )
    parser.add_argument(
        "--chip", default="h100", metavar="NAME", help="a100, h100, h200, v5e, v5p or v6e (default: %(default)s)"
    )
    for side in ("source", "target"):
        parser.add_argument(
            f"--{side}_vocabulary",
            type=int,
            default=0,
            metavar="N",
            help="its entries; with both given, the data is not read and rows are as long as the config allows",
        )
    parser.add_argument("--fit", action="store_true", help="look for the mesh, remat and accumulation that serve best")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables, with every parameter")


def run(arguments: argparse.Namespace) -> int:
    """Prints the plan; returns the exit code."""
    if arguments.devices < 1:
        raise InputError(f"--devices={arguments.devices}: give 1 or more")
    config = _with_mesh(config_flags.load(arguments), arguments.mesh)
    if arguments.fit and config.parallel.mode == "pmap":
        raise InputError("--fit looks for a mesh, and config.parallel.mode='pmap' has none; use parallel.mode=jit")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's own warnings; the plan says what follows
    import jax  # here, because --help does not need it

    # Before anything asks for a device: from then on these are all there are.
    jax.config.update("jax_platforms", "cpu")
    with contextlib.suppress(RuntimeError):  # somebody has asked: those that there are must do
        jax.config.update("jax_num_cpu_devices", arguments.devices)
    from flaxformer_lite.monitoring import chips
    from flaxformer_lite.plan import fit, programs, report, tables

    try:
        chip = chips.find_chip(arguments.chip)
    except InputError as error:
        raise error.with_subject(f"--chip={arguments.chip}") from error
    devices = jax.devices()[: arguments.devices]
    if not arguments.fit:
        programs.make_plan_layout(config, devices)  # names what is amiss with the mesh before the data is read
    if teachers := config.train.distill.teachers:
        logger.info(f"without the {len(teachers)} teachers of config.train.distill: their weights and work come on top")
    sizes = _sizes(config, arguments.source_vocabulary, arguments.target_vocabulary)
    if arguments.fit:
        found = fit.find_fit(config, sizes, chip, devices, say)
        values, lines = tables.fit_as_json(found), tables.fit_as_text(found)
    else:
        plan = report.make_plan(config, sizes, chip, devices)
        values, lines = tables.as_json(plan), tables.as_text(plan)
    print(json.dumps(values, indent=1) if arguments.json else "\n".join(lines))
    return 0


def _with_mesh(config: Config, mesh: str) -> Config:
    """The config with ``--mesh=data=4,fsdp=8`` in place of its own mesh; axes not named have the size 1."""
    from dataclasses import asdict, replace

    from flaxformer_lite.config import parsing

    if not mesh:
        return config
    sizes = dict.fromkeys(asdict(config.mesh), 1)
    for part in mesh.split(","):
        axis, _, size = part.partition("=")
        if axis not in sizes or not size.removeprefix("-").isdecimal() or (int(size) < 1 and int(size) != -1):
            raise InputError(
                f"--mesh={mesh}: {part!r} is no axis and its size; write {','.join(f'{name}=2' for name in sizes)} or "
                f"some of these"
            )
        sizes[axis] = int(size)
    return parsing.from_dict(parsing.to_dict(replace(config, mesh=replace(config.mesh, **sizes))))


def _sizes(config: Config, source_vocabulary: int, target_vocabulary: int) -> Sizes:
    """What the data is like: read, if it is there and nobody says what vocabularies it gives."""
    from flaxformer_lite.plan.sizes import given_sizes, read_sizes

    if source_vocabulary or target_vocabulary:
        return given_sizes(config, source_vocabulary, target_vocabulary)
    try:
        return read_sizes(config)
    except InputError as error:
        logger.info(f"the data cannot be read, so its sizes are taken from the config: {error}")
        return given_sizes(config, 0, 0)
