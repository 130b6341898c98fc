"""Predict memory, FLOPs, communication and time of training on many devices, and warn about inefficiencies.

The training step is compiled on a CPU from shapes alone, for devices that need not exist; nothing is trained. Bytes of
parameters and optimizer state, FLOPs and the communication of the compiled program are exact; activations and times are
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
    from flaxformer_lite.plan.data_sizes import DataSizes

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_flags.add_arguments(parser)
    parser.add_argument("--devices", type=int, default=8, metavar="N", help="number of devices (default: %(default)s)")
    parser.add_argument(
        "--mesh",
        default="",
        metavar="AXES",
        help="mesh sizes, such as data=4,fsdp=8,tensor=2; -1: all remaining devices (default: config.mesh)",
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
            help=f"size of the {side} vocabulary; with both, the data is not read and rows have maximum length",
        )
    parser.add_argument(
        "--fit", action="store_true", help="search for the fastest mesh, rematerialization and gradient accumulation"
    )
    parser.add_argument("--json", action="store_true", help="print JSON with all parameters instead of tables")


def run(arguments: argparse.Namespace) -> int:
    if arguments.devices < 1:
        raise InputError(f"--devices={arguments.devices}", "must be at least 1")
    config = _with_mesh(config_flags.load(arguments), arguments.mesh)
    if arguments.fit and config.parallel.mode == "pmap":
        raise InputError("--fit", "config.parallel.mode='pmap' has no mesh", "use config.parallel.mode=jit")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides the compiler's own warnings
    import jax  # here, because --help does not need it

    # Before jax initializes its devices.
    jax.config.update("jax_platforms", "cpu")
    with contextlib.suppress(RuntimeError):  # they are initialized already
        jax.config.update("jax_num_cpu_devices", arguments.devices)
    from flaxformer_lite.monitoring.chips import find_chip
    from flaxformer_lite.plan import format_report
    from flaxformer_lite.plan.compile_step import make_plan_layout
    from flaxformer_lite.plan.data_sizes import with_rows
    from flaxformer_lite.plan.mesh_search import search_mesh
    from flaxformer_lite.plan.report import make_report

    try:
        chip = find_chip(arguments.chip)
    except InputError as error:
        raise error.with_subject(f"--chip={arguments.chip}") from error
    devices = jax.devices()[: arguments.devices]
    if not arguments.fit:
        make_plan_layout(config, devices)  # reports an invalid mesh before the data is read
    if teachers := config.train.distill.teachers:
        logger.warning(f"the {len(teachers)} teachers of config.train.distill are not included")
    sizes = _data_sizes(config, arguments.source_vocabulary, arguments.target_vocabulary)
    config = with_rows(config, sizes)
    if arguments.fit:
        found = search_mesh(config, sizes, chip, devices)
        values, lines = format_report.search_to_json(found), format_report.search_to_text(found)
    else:
        plan = make_report(config, sizes, chip, devices)
        values, lines = format_report.to_json(plan), format_report.to_text(plan)
    print(json.dumps(values, indent=1) if arguments.json else "\n".join(lines))
    return 0


def _with_mesh(config: Config, mesh: str) -> Config:
    """Replaces the mesh by ``--mesh=data=4,fsdp=8``; axes that are not named have size 1."""
    from dataclasses import asdict, replace

    from flaxformer_lite.config import parsing

    if not mesh:
        return config
    sizes = dict.fromkeys(asdict(config.mesh), 1)
    for part in mesh.split(","):
        axis, _, size = part.partition("=")
        if axis not in sizes or not size.removeprefix("-").isdecimal() or (int(size) < 1 and int(size) != -1):
            example = ",".join(f"{name}=2" for name in sizes)
            raise InputError(f"--mesh={mesh}", f"{part!r} is not AXIS=SIZE", f"such as {example}, or some of these")
        sizes[axis] = int(size)
    return parsing.from_dict(parsing.to_dict(replace(config, mesh=replace(config.mesh, **sizes))))


def _data_sizes(config: Config, source_vocabulary: int, target_vocabulary: int) -> DataSizes:
    """The sizes of the data, or of the config where vocabulary sizes are given or the data cannot be read."""
    from flaxformer_lite.plan.data_sizes import sizes_from_config, sizes_from_data

    if not source_vocabulary and not target_vocabulary:
        try:
            return sizes_from_data(config)
        except InputError as error:
            logger.warning(f"the data cannot be read, so the sizes of the config are used: {error}")
    try:
        return sizes_from_config(config, source_vocabulary, target_vocabulary)
    except InputError as error:
        is_flag = error.subject in ("source_vocabulary", "target_vocabulary")
        raise error.with_subject(f"--{error.subject}") if is_flag else error from error
