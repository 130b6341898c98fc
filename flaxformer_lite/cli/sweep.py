r"""Train many variants of one config, each in a folder of its own, several at once.

A sweep file says what changes from point to point: a Python file whose sweep() yields dictionaries of dotted keys, such
as {"optim.learning_rate": 1e-3, "seed": 0}. With --search=optuna its space() says between what to search, and each
point is chosen by how those before did. Everything is checked before anything starts. The same command again skips what
is done and goes on with the rest, after Ctrl-C (which has every run save first) and after a crash alike.

Examples:
  flaxformer-lite sweep --config=configs/tiny.py --sweep=configs/sweeps/lr.py --workdir=runs/lr --parallel=2
  flaxformer-lite sweep --config=configs/g2p.py --sweep=configs/sweeps/lr.py --workdir=runs/lr --dry_run
  flaxformer-lite sweep --config=configs/g2p.py --sweep=configs/sweeps/lr.py --workdir=/shared/lr \
    --launcher=slurm --slurm=partition=gpu --slurm=gpus_per_node=1 --slurm=time=240
  flaxformer-lite sweep --config=configs/tiny.py --sweep=configs/sweeps/space.py --workdir=runs/search \
    --search=optuna --trials=20 --pruner=median --parallel=2

docs/sweeps.md says more: random draws, searches, what lies in the folders, how cores and GPUs are shared out, Slurm.
"""

from __future__ import annotations

import argparse
import ast
import logging
import shutil
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxformer_lite.cli import config_flags
from flaxformer_lite.config import overrides
from flaxformer_lite.errors import InputError

if TYPE_CHECKING:
    from flaxformer_lite.sweeps.launchers import Launcher
    from flaxformer_lite.sweeps.suggesters import Source, Standings
    from flaxformer_lite.sweeps.sweep_dir import SweepFolder

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``sweep``."""
    config_flags.add_arguments(parser)
    parser.add_argument(
        "--sweep", metavar="FILE", help="a Python file whose sweep() yields the points (or see --search)"
    )
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
        help="jobs at once, among which cores and GPUs are shared out (default: one a GPU, or one; of Slurm: all, of a "
        "search a quarter of its trials)",
    )
    parser.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of sbatch, such as partition=gpu, gpus_per_node=1 or time=240 (minutes); as often as you like",
    )
    parser.add_argument(
        "--search",
        choices=("optuna",),
        help="choose points by how those before did, from the space that the file's space() describes (TPE)",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="of a search, in all; a second call may ask for more")
    parser.add_argument(
        "--pruner",
        choices=("none", "median", "halving"),
        help="of a search: end runs whose evaluations are worse than the median of others' at that step, or not among "
        "the best third at steps 1, 3, 9, … times train.eval_every (default: none)",
    )
    parser.add_argument("--dry_run", action="store_true", help="print the points and what would run; start nothing")


def run(arguments: argparse.Namespace) -> int:
    """Runs the sweep; returns 0 where all is done or pruned, 1 where it is not, 128 + the signal that stopped it."""
    for flag in ("sweep", "workdir"):
        if not getattr(arguments, flag):
            raise InputError(f"--{flag} is missing; such as --sweep=configs/sweeps/lr.py --workdir=runs/lr")
    for flag in ("parallel", "trials"):
        if (value := getattr(arguments, flag)) is not None and value < 1:
            raise InputError(f"--{flag}={value}: must be at least 1")
    from flaxformer_lite.sweeps.sweep_dir import SweepFolder

    base = config_flags.read(arguments)
    given = set(map(overrides.key_of, arguments.overrides))
    return (_search if arguments.search else _sweep)(arguments, base, given, SweepFolder(Path(arguments.workdir)))


def _sweep(arguments: argparse.Namespace, base: Any, given: Collection[str], folder: SweepFolder) -> int:
    """Runs all that the file yields."""
    for flag in ("trials", "pruner"):
        if value := getattr(arguments, flag):
            raise InputError(f"--{flag}={value}: goes with --search=optuna")
    from flaxformer_lite.sweeps.suggesters import Listed
    from flaxformer_lite.sweeps.trials import read_points

    points = read_points(arguments.sweep, base, given)
    folder.check(points)
    launcher = _launcher(arguments, folder.jobs, len(points))
    if arguments.dry_run:
        return _show(Listed(points), folder, launcher)
    with folder.alone():
        return _run(Listed(points), folder, launcher)


def _search(arguments: argparse.Namespace, base: Any, given: Collection[str], folder: SweepFolder) -> int:
    """Runs what optuna chooses from the space of the file."""
    if arguments.trials is None:
        raise InputError("--trials is missing: say how many runs --search=optuna may try, such as --trials=20")
    from flaxformer_lite.sweeps.search_space import read_space

    space = read_space(arguments.sweep, base, given)
    folder.check_search()
    launcher = _launcher(arguments, folder.jobs, max(arguments.trials // 4, 1))
    try:
        from flaxformer_lite.sweeps.study import opened
    except ImportError as error:
        raise InputError(
            f"--search=optuna needs a package that is not installed ({error.name}): pip install "
            "'flaxformer-lite[optuna]'"
        ) from error
    how = (space, arguments.pruner or "none", arguments.trials)
    if arguments.dry_run:
        with tempfile.TemporaryDirectory() as place, opened(_copied(folder, Path(place)), *how) as source:
            source.take_up()
            source.draw(len(launcher.shares))  # further ones depend on what becomes of these
            return _show(source, folder, launcher)
    with folder.alone(), opened(folder, *how) as source:
        source.take_up()
        code = _run(source, folder, launcher)
    for refused in source.refused:
        logger.info(refused)
    return code or bool(source.refused)


def _copied(folder: SweepFolder, place: Path) -> SweepFolder:
    """The same study, to be written to."""
    copy = type(folder)(place)
    if folder.search.exists():
        shutil.copyfile(folder.search, copy.search)
    return copy


def _launcher(arguments: argparse.Namespace, jobs: Path, points: int) -> Launcher:
    from flaxformer_lite.sweeps import launchers
    from flaxformer_lite.sweeps.resources import visible_gpus

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


def _show(source: Source, folder: SweepFolder, launcher: Launcher) -> int:
    """Prints the points and what would become of them."""
    from flaxformer_lite.sweeps.status import Phase, stand
    from flaxformer_lite.sweeps.table import count

    would = {
        Phase.NEW: "starts",
        Phase.INTERRUPTED: "goes on",
        Phase.FAILED: "failed; tries again",
        Phase.PRUNED: "pruned",
        Phase.DONE: "done",
        Phase.QUEUED: "queued",
        Phase.RUNNING: "running",
    }
    points = source.points
    standings = {point.name: stand(point, folder.of(point), launcher) for point in points}
    width = max(map(len, would.values()))
    for point in points:
        standing = standings[point.name]
        step = f"  (step {standing.progress.step:,} of {point.config.train.steps:,})" if standing.progress.step else ""
        print(f"{would[standing.phase]:<{width}}  {folder.path / point.name}{step}")
    at_once = min(len(launcher.shares), len(points) + source.to_come)
    logger.info(f"{count(source, standings)}; {at_once} at once; nothing was started")
    return 0


def _run(source: Source, folder: SweepFolder, launcher: Launcher) -> int:
    from flaxformer_lite.sweeps.run import Jobs, run
    from flaxformer_lite.sweeps.table import Lines, LiveTable

    standings, stop = run(source, Jobs(folder, launcher), LiveTable() if sys.stderr.isatty() else Lines())
    _say_end(source, folder, standings)
    if stop:
        logger.info("stopped; the same command goes on from what is saved")
        return 128 + stop
    return 0 if all(standing.phase.settled for standing in standings.values()) else 1


def _say_end(source: Source, folder: SweepFolder, standings: Standings) -> None:
    from flaxformer_lite.sweeps.table import best, count

    for point in source.points:
        if standings[point.name].phase == "failed":
            logger.info(f"{point.label} failed: {standings[point.name].said}\n  its log: {folder.of(point).log}")
    for line in best(source.points, standings):
        logger.info(line)
    logger.info(f"{count(source, standings)}; all in {folder.path}")
