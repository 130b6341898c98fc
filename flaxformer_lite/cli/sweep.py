r"""Train many variants of one config in parallel, each in its own work directory.

A sweep file is a Python file whose sweep() yields the trials: dictionaries of dotted config keys, such as
{"optim.learning_rate": 1e-3, "seed": 0}. With --search=optuna its space() returns a search space, and each trial is
chosen by the results of earlier ones. All trials are validated before any starts. The same command again skips finished
trials and resumes the others, after Ctrl-C (which saves every run first) as after a crash.

Examples:
  flaxformer-lite sweep --config=configs/tiny.py --sweep=configs/sweeps/lr.py --workdir=runs/lr --parallel=2
  flaxformer-lite sweep --config=configs/g2p.py --sweep=configs/sweeps/lr.py --workdir=runs/lr --dry_run
  flaxformer-lite sweep --config=configs/g2p.py --sweep=configs/sweeps/lr.py --workdir=/shared/lr \
    --launcher=slurm --slurm=partition=gpu --slurm=gpus_per_node=1 --slurm=time=240
  flaxformer-lite sweep --config=configs/tiny.py --sweep=configs/sweeps/space.py --workdir=runs/search \
    --search=optuna --trials=20 --pruner=median --parallel=2

See docs/sweeps.md for random search, search spaces, the files of a sweep, resources per job, and Slurm.
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
from flaxformer_lite.cli.flag_errors import name_flags
from flaxformer_lite.config import loading
from flaxformer_lite.errors import InputError

if TYPE_CHECKING:
    from flaxformer_lite.sweeps.launchers import Launcher
    from flaxformer_lite.sweeps.suggester import Suggester
    from flaxformer_lite.sweeps.sweep_dir import SweepDir

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_flags.add_arguments(parser)
    parser.add_argument(
        "--sweep", metavar="FILE", help="a Python file whose sweep() yields the trials (or see --search)"
    )
    parser.add_argument("--workdir", metavar="DIR", help="directory of the sweep, with a work directory per trial")
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="where jobs run: on this machine, or on a Slurm cluster (default: %(default)s)",
    )
    parser.add_argument(
        "--parallel",
        type=int,
        metavar="N",
        help="concurrent jobs, which share cores and GPUs (default: one per GPU, or one; with Slurm: all, in a search "
        "a quarter of its trials)",
    )
    parser.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an sbatch parameter, such as partition=gpu, gpus_per_node=1 or time=240 (minutes); may be repeated",
    )
    parser.add_argument(
        "--search",
        choices=("optuna",),
        help="choose trials by the results of earlier ones, from the search space of the file's space() (TPE)",
    )
    parser.add_argument(
        "--trials", type=int, metavar="N", help="total number of trials of a search; a second call may raise it"
    )
    parser.add_argument(
        "--pruner",
        choices=("none", "median", "halving"),
        help="stop trials of a search early: those below the median of the others at the same step, or those not in "
        "the best third at 1, 3, 9, … times train.eval_every (default: none)",
    )
    parser.add_argument("--dry_run", action="store_true", help="print the trials and their status; start nothing")


def run(arguments: argparse.Namespace) -> int:
    """Runs the sweep; returns 0 where all trials are done or pruned, 1 otherwise, 128 + the signal that stopped it."""
    for flag, example in (("sweep", "configs/sweeps/lr.py"), ("workdir", "runs/lr")):
        if not getattr(arguments, flag):
            raise InputError(f"--{flag}", "is missing", f"such as --{flag}={example}")
    for flag in ("parallel", "trials"):
        if (value := getattr(arguments, flag)) is not None and value < 1:
            raise InputError(f"--{flag}={value}", "must be at least 1")
    from flaxformer_lite.sweeps.sweep_dir import SweepDir

    base = config_flags.read(arguments)
    fixed = set(map(loading.key_of, arguments.overrides))
    run_trials = _run_search if arguments.search else _run_list
    with name_flags(arguments, "sweep", "workdir"):
        return run_trials(arguments, base, fixed, SweepDir(Path(arguments.workdir)))


def _run_list(arguments: argparse.Namespace, base: Any, fixed: Collection[str], sweep_dir: SweepDir) -> int:
    """Runs all trials that the file's ``sweep()`` yields."""
    for flag in ("trials", "pruner"):
        if value := getattr(arguments, flag):
            raise InputError(f"--{flag}={value}", "requires --search=optuna")
    from flaxformer_lite.sweeps.suggester import FixedTrials
    from flaxformer_lite.sweeps.trials import load_trials

    trials = load_trials(arguments.sweep, base, fixed)
    sweep_dir.check_trials(trials)
    launcher = _launcher(arguments, sweep_dir.jobs, len(trials))
    if arguments.dry_run:
        return _dry_run(FixedTrials(trials), sweep_dir, launcher)
    with sweep_dir.lock():
        return _run(FixedTrials(trials), sweep_dir, launcher)


def _run_search(arguments: argparse.Namespace, base: Any, fixed: Collection[str], sweep_dir: SweepDir) -> int:
    """Runs trials that optuna suggests from the file's ``space()``."""
    if arguments.trials is None:
        raise InputError("--trials", "is missing", "give the number of trials of the search, such as --trials=20")
    from flaxformer_lite.sweeps.search_space import load_search_space

    space = load_search_space(arguments.sweep, base, fixed)
    sweep_dir.check_search()
    launcher = _launcher(arguments, sweep_dir.jobs, max(arguments.trials // 4, 1))
    try:
        from flaxformer_lite.sweeps.optuna_search import open_study
    except ImportError as error:
        raise InputError(
            "--search=optuna",
            f"requires a package that is not installed ({error.name})",
            "pip install 'flaxformer-lite[optuna]'",
        ) from error
    options = (space, arguments.pruner or "none", arguments.trials)
    if arguments.dry_run:
        with tempfile.TemporaryDirectory() as path, open_study(_copy(sweep_dir, Path(path)), *options) as suggester:
            suggester.recover()
            suggester.suggest(len(launcher.slots))  # later ones depend on the results of these
            return _dry_run(suggester, sweep_dir, launcher)
    with sweep_dir.lock(), open_study(sweep_dir, *options) as suggester:
        suggester.recover()
        code = _run(suggester, sweep_dir, launcher)
    for message in suggester.invalid:
        logger.warning(message)
    return code or bool(suggester.invalid)


def _copy(sweep_dir: SweepDir, path: Path) -> SweepDir:
    """A copy of the study, which a dry run may change."""
    copy = type(sweep_dir)(path)
    if sweep_dir.study.exists():
        shutil.copyfile(sweep_dir.study, copy.study)
    return copy


def _launcher(arguments: argparse.Namespace, path: Path, parallel: int) -> Launcher:
    from flaxformer_lite.sweeps.launchers import LocalLauncher, SlurmLauncher
    from flaxformer_lite.sweeps.resources import visible_gpus

    parameters = dict(map(_parameter, arguments.slurm))
    if arguments.launcher == "slurm":
        try:
            return SlurmLauncher(path, arguments.parallel or parallel, parameters)
        except InputError as error:
            raise error.with_subject("--launcher=slurm") from error
    if parameters:
        raise InputError(f"--slurm={arguments.slurm[0]}", "requires --launcher=slurm")
    return LocalLauncher(path, arguments.parallel or len(visible_gpus()) or 1)


def _parameter(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--slurm={text}", "must be KEY=VALUE, such as --slurm=partition=gpu")
    try:
        return key, ast.literal_eval(value)  # numbers, True, lists
    except (ValueError, SyntaxError):
        return key, value


def _dry_run(suggester: Suggester, sweep_dir: SweepDir, launcher: Launcher) -> int:
    """Prints the trials and what a sweep would do with them."""
    from flaxformer_lite.sweeps.live_table import format_counts
    from flaxformer_lite.sweeps.trial_status import TrialState, read_status

    actions = {state: str(state) for state in TrialState} | {
        TrialState.NEW: "starts",
        TrialState.INTERRUPTED: "resumes",
        TrialState.FAILED: "failed; retries",
    }
    trials = suggester.trials
    statuses = {trial.name: read_status(trial, sweep_dir.trial_dir(trial), launcher) for trial in trials}
    width = max(map(len, actions.values()))
    for trial in trials:
        status = statuses[trial.name]
        step = f"  (step {status.progress.step:,} of {trial.config.train.steps:,})" if status.progress.step else ""
        print(f"{actions[status.state]:<{width}}  {sweep_dir.path / trial.name}{step}")
    parallel = min(len(launcher.slots), len(trials) + suggester.num_remaining)
    logger.info(f"{format_counts(suggester, statuses)}; {parallel} in parallel; nothing was started")
    return 0


def _run(suggester: Suggester, sweep_dir: SweepDir, launcher: Launcher) -> int:
    from flaxformer_lite.sweeps.live_table import EventLog, LiveTable, format_best, format_counts
    from flaxformer_lite.sweeps.runner import JobManager, run_trials

    display = LiveTable() if sys.stderr.isatty() else EventLog()
    statuses, stop_signal = run_trials(suggester, JobManager(sweep_dir, launcher), display)
    for trial in suggester.trials:
        if statuses[trial.name].state == "failed":
            log = sweep_dir.trial_dir(trial).log
            logger.warning(f"{trial.label} failed: {statuses[trial.name].message}\n  log: {log}")
    for line in format_best(suggester.trials, statuses):
        logger.info(line)
    logger.info(f"{format_counts(suggester, statuses)}; in {sweep_dir.path}")
    if stop_signal:
        logger.info("stopped; run the same command again to resume")
        return 128 + stop_signal
    return 0 if all(status.state.is_final for status in statuses.values()) else 1
