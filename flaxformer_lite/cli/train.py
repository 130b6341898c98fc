"""Train a model, or resume a run.

Trains by a config file and writes everything into the work directory: checkpoints, vocabularies, metrics.jsonl,
curves.png, samples.txt and TensorBoard's event files. The same command resumes the run exactly, after Ctrl-C and after
a crash alike. provenance.json records for each start the command line, code, packages, devices and data; --reproduce
repeats a run from its work directory and reports what differs now.

Examples:
  flaxformer-lite train --config=configs/tiny.py --workdir=runs/tiny
  flaxformer-lite train --config=configs/g2p.py --workdir=runs/g2p \
      --config.model.encoder.width=256 --config.train.steps=20000
  flaxformer-lite train --reproduce=runs/tiny --workdir=runs/tiny_again

The docstring of each file in configs/ describes the experiment, its duration and the expected result.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from flaxformer_lite.cli import config_flags, multihost_flags
from flaxformer_lite.config import loading, parsing
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError
from flaxformer_lite.system import malloc


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``train``."""
    config_flags.add_arguments(parser)
    parser.add_argument(
        "--workdir",
        metavar="DIR",
        help="work directory of the run; it is created if needed, and a run in it is resumed",
    )
    parser.add_argument(
        "--reproduce",
        metavar="DIR",
        default="",
        help="repeat the run of this work directory: its settings (instead of --config), data and teachers; only "
        "settings that may change when a run is resumed may be overridden",
    )
    parser.add_argument(
        "--profile_steps",
        metavar="FIRST:LAST",
        default="",
        help="trace these steps with the profiler into DIR/profile (for xprof or TensorBoard), such as 10:15",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="make 10 steps with an evaluation and a checkpoint, to see that everything works; what is shortened is "
        "printed",
    )
    multihost_flags.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Trains; returns the exit code."""
    malloc.use_single_arena()
    config = _load_config(arguments)
    workdir, reproduced = arguments.workdir, arguments.reproduce
    if not workdir:
        raise InputError("--workdir", "is missing", "name a directory for the run, such as --workdir=runs/tiny")
    if reproduced and Path(reproduced).resolve() == Path(workdir).resolve():
        raise InputError(
            f"--workdir={workdir}",
            "is the run to reproduce",
            "name another directory, or replace --reproduce by --config to resume it",
        )
    config = loading.smoke(config) if arguments.smoke else config
    profile_steps = _parse_steps(arguments.profile_steps)
    multihost_flags.join(arguments)
    from flaxformer_lite.training import loop  # here, because jax takes seconds to import and --help does not need it

    return loop.train(config, workdir, profile_steps, reproduced or None).exit_code


def _load_config(arguments: argparse.Namespace) -> Config:
    if not arguments.reproduce:
        return config_flags.load(arguments)
    if arguments.config:
        reason = f"--reproduce uses the settings of {arguments.reproduce}"
        raise InputError(f"--config={arguments.config}", reason, "leave one of the two out")
    from ml_collections import ConfigDict  # here, because --help needs none of it

    from flaxformer_lite.checkpoints.work_dir import RESUMABLE_KEYS, WorkDir, is_resumable

    for override in arguments.overrides:
        key = loading.key_of(override)
        if not is_resumable(key):
            raise InputError(
                override,
                f"--reproduce takes this setting from {arguments.reproduce}; "
                f"only {', '.join(RESUMABLE_KEYS)} may change",
                "leave --reproduce out for another run",
            )
    found = WorkDir(arguments.reproduce).config()
    return loading.overridden(ConfigDict(parsing.to_dict(found)), arguments.overrides, arguments.reproduce)


def _parse_steps(steps: str) -> tuple[int, int]:
    """First and last step of ``10:15``; (0, 0) where nothing is given."""
    if not steps:
        return 0, 0
    found = re.fullmatch(r"(\d+):(\d+)", steps)
    if not found or not 0 < int(found[1]) <= int(found[2]):
        reason = "must be the first and the last step, counted from 1, such as 10:15"
        raise InputError(f"--profile_steps={steps}", reason)
    return int(found[1]), int(found[2])
