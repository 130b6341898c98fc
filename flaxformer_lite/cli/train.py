"""Train a model, or go on where a run stopped.

Reads every setting from a config file, trains, and keeps all it makes in the work folder: checkpoints, vocabularies,
metrics.jsonl, curves.png, samples.txt and TensorBoard's event files. The same command again continues the run as if
it had never stopped, after Ctrl-C and after a crash alike. provenance.json tells of each start the command line, code,
packages, devices and data; --reproduce makes the same run again from there, and says what is no longer the same.

Examples:
  flaxformer-lite train --config=configs/tiny.py --workdir=runs/tiny
  flaxformer-lite train --config=configs/g2p.py --workdir=runs/g2p \
      --config.model.encoder.width=256 --config.train.steps=20000
  flaxformer-lite train --reproduce=runs/tiny --workdir=runs/tiny_again

The docstring of each file in configs/ says what it trains, how long that takes and what to expect.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from flaxformer_lite.cli import config_flags, multihost_flags
from flaxformer_lite.config import overrides, parsing
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError
from flaxformer_lite.system import malloc


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``train``."""
    config_flags.add_arguments(parser)
    parser.add_argument(
        "--workdir",
        metavar="FOLDER",
        help="the folder of the run; it is made if need be, and a run that lies there already is continued",
    )
    parser.add_argument(
        "--reproduce",
        metavar="FOLDER",
        default="",
        help="make the run of this work folder again: its settings (instead of --config), data and teachers; of the "
        "settings only those that say where it is computed may be changed",
    )
    parser.add_argument(
        "--profile_steps",
        metavar="FIRST:LAST",
        default="",
        help="trace these steps into FOLDER/profile, as xprof and TensorBoard's profile plugin open it; such as 10:15",
    )
    multihost_flags.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Trains; returns the exit code."""
    malloc.use_single_arena()
    config = _load_config(arguments)
    if not arguments.workdir:
        raise InputError("--workdir is missing: name a folder for the run, such as --workdir=runs/tiny")
    if arguments.reproduce and Path(arguments.reproduce).resolve() == Path(arguments.workdir).resolve():
        raise InputError(
            f"--workdir={arguments.workdir} is the run to reproduce; name another folder, or leave --reproduce out and "
            "give --config to go on with it"
        )
    traced = _first_and_last(arguments.profile_steps)
    multihost_flags.join(arguments)
    from flaxformer_lite.training import (
        loop,
    )  # here, because it takes jax seconds to import and --help needs none of it

    return loop.train(config, Path(arguments.workdir), traced, Path(arguments.reproduce or arguments.workdir))


def _load_config(arguments: argparse.Namespace) -> Config:
    if not arguments.reproduce:
        return overrides.load(arguments.config, arguments.overrides)
    if arguments.config:
        raise InputError(
            f"--config={arguments.config}: --reproduce takes the settings of {arguments.reproduce}; leave one of the "
            "two out"
        )
    from ml_collections import ConfigDict  # here, because --help needs none of it

    from flaxformer_lite.checkpoints.work_dir import RESUMABLE_KEYS, WorkDir, is_resumable

    for override in arguments.overrides:
        key = overrides.key_of(override)
        if not is_resumable(key):
            raise InputError(
                f"{override}: --reproduce takes this setting from {arguments.reproduce}; only where a run is computed "
                f"may change ({', '.join(RESUMABLE_KEYS)}); for another run leave --reproduce out"
            )
    found = WorkDir(arguments.reproduce).config()
    return overrides.overridden(ConfigDict(parsing.to_dict(found)), arguments.overrides, arguments.reproduce)


def _first_and_last(steps: str) -> tuple[int, int]:
    """Of ``10:15``; (0, 0) of nothing."""
    if not steps:
        return 0, 0
    found = re.fullmatch(r"(\d+):(\d+)", steps)
    if not found or not 0 < int(found[1]) <= int(found[2]):
        raise InputError(f"--profile_steps={steps}: must be two steps, such as 10:15, the first from 1")
    return int(found[1]), int(found[2])
