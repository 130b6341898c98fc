r"""Train many variants of one config, each in a folder of its own, several at once.

A sweep file says what changes from point to point: a Python file whose sweep() yields dictionaries of dotted keys, such
as {"optim.learning_rate": 1e-3, "seed": 0}. Everything is checked before anything starts. The same command again skips
what is done and goes on with the rest, after Ctrl-C (which has every run save first) and after a crash alike.

Examples:
  flaxformer-lite sweep --config=configs/tiny.py --sweep=configs/sweeps/lr.py --workdir=runs/lr --parallel=2
  flaxformer-lite sweep --config=configs/g2p.py --sweep=configs/sweeps/lr.py --workdir=runs/lr --dry_run
  flaxformer-lite sweep --config=configs/g2p.py --sweep=configs/sweeps/lr.py --workdir=/shared/lr \
    --launcher=slurm --slurm=partition=gpu --slurm=gpus_per_node=1 --slurm=time=240

docs/sweeps.md says more: random draws, what lies in the folders, how cores and GPUs are shared out, Slurm.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxformer_lite.cli import configuration
from flaxformer_lite.errors import InputError
from flaxformer_lite.say import say

if TYPE_CHECKING:
    from flaxformer_lite.sweeps.folder import SweepFolder
    from flaxformer_lite.sweeps.launchers import Launcher
    from flaxformer_lite.sweeps.points import Point
    from flaxformer_lite.sweeps.run import Standings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``sweep``."""
    configuration.add_arguments(parser)
    parser.add_argument("--sweep", metavar="FILE", help="a Python file whose sweep() yields the points")
    parser.add_argument("--workdir", metavar="FOLDER", help="where each point gets a folder")
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="where the jobs run: on this machine, or as jobs of a Slurm cluster (default: %(default)s)",
    )
    parser.add_argument(
        "--parallel",
        type=int,
        metavar="N",
        help="jobs at once, among which cores and GPUs are shared out (default: one a GPU, or one; of Slurm: all)",
    )
    parser.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of sbatch, such as partition=gpu, gpus_per_node=1 or time=240 (minutes); as often as you like",
    )
    parser.add_argument("--dry_run", action="store_true", help="print the points and what would run; start nothing")


def run(arguments: argparse.Namespace) -> int:
    """Runs the sweep; returns 0 where all points are done, 1 where one is not, 128 + the signal that stopped it."""
    for flag in ("sweep", "workdir"):
        if not getattr(arguments, flag):
            raise InputError(f"--{flag} is missing; such as --sweep=configs/sweeps/lr.py --workdir=runs/lr")
    if arguments.parallel is not None and arguments.parallel < 1:
        raise InputError(f"--parallel={arguments.parallel}: must be at least 1")
    from flaxformer_lite.sweeps.folder import SweepFolder
    from flaxformer_lite.sweeps.points import read_points

    base = configuration.read(arguments.config, arguments.overrides)
    points = read_points(arguments.sweep, base, map(configuration.key_of, arguments.overrides))
    folder = SweepFolder(Path(arguments.workdir))
    folder.check(points)
    launcher = _launcher(arguments, folder.jobs, len(points))
    if arguments.dry_run:
        return _show(points, folder, launcher)
    return _run(points, folder, launcher)


def _launcher(arguments: argparse.Namespace, jobs: Path, points: int) -> Launcher:
    from flaxformer_lite.sweeps import launchers
    from flaxformer_lite.sweeps.shares import visible_gpus

    settings = dict(map(_setting, arguments.slurm))
    if arguments.launcher == "slurm":
        return launchers.Slurm(jobs, arguments.parallel or points, settings)
    if settings:
        raise InputError(f"--slurm={arguments.slurm[0]}: goes with --launcher=slurm")
    return launchers.Local(jobs, arguments.parallel or len(visible_gpus()) or 1)


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--slurm={text}: must be KEY=VALUE, such as --slurm=partition=gpu")
    try:
        return key, ast.literal_eval(value)  # numbers, True, lists
    except (ValueError, SyntaxError):
        return key, value


def _show(points: Sequence[Point], folder: SweepFolder, launcher: Launcher) -> int:
    """Prints the points and what would become of them."""
    from flaxformer_lite.sweeps.standing import Phase, stand
    from flaxformer_lite.sweeps.table import count

    would = {
        Phase.NEW: "starts",
        Phase.INTERRUPTED: "goes on",
        Phase.FAILED: "failed; tries again",
        Phase.DONE: "done",
        Phase.QUEUED: "queued",
        Phase.RUNNING: "running",
    }
    standings = {point.name: stand(point, folder.of(point), launcher) for point in points}
    width = max(map(len, would.values()))
    for point in points:
        standing = standings[point.name]
        step = f"  (step {standing.progress.step:,} of {point.config.train.steps:,})" if standing.progress.step else ""
        print(f"{would[standing.phase]:<{width}}  {folder.path / point.name}{step}")
    say(f"{count(standings)}; {min(len(launcher.shares), len(points))} at once; nothing was started")
    return 0


def _run(points: Sequence[Point], folder: SweepFolder, launcher: Launcher) -> int:
    from flaxformer_lite.sweeps.run import Jobs, run
    from flaxformer_lite.sweeps.table import Lines, LiveTable

    watch = LiveTable(points) if sys.stderr.isatty() else Lines(points)
    with folder.alone():
        standings, stop = run(points, Jobs(folder, launcher), watch)
    _say_end(points, folder, standings)
    if stop:
        say("stopped, and everything saved; the same command goes on from there")
        return 128 + stop
    return 0 if all(standing.phase == "done" for standing in standings.values()) else 1


def _say_end(points: Sequence[Point], folder: SweepFolder, standings: Standings) -> None:
    from flaxformer_lite.sweeps.table import count

    for point in points:
        if standings[point.name].phase == "failed":
            say(f"{point.label} failed: {standings[point.name].said}\n  its log: {folder.of(point).log}")
    say(f"{count(standings)}; all in {folder.path}")
