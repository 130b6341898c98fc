"""List the checkpoints of a run, find the best one, or compare two.

Examples:
  flaxformer-lite checkpoints ls --workdir=runs/g2p
  flaxformer-lite decode --workdir=runs/g2p --step=$(flaxformer-lite checkpoints best --workdir=runs/g2p --metric=per)
  flaxformer-lite checkpoints diff --workdir=runs/g2p --steps=500,best
  flaxformer-lite checkpoints diff --workdir=runs/a,runs/b

flaxformer-lite checkpoints ls --help (best, diff) explains each.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxformer_lite.errors import InputError, require
from flaxformer_lite.monitoring import metric_writer
from flaxformer_lite.system.console import format_duration, format_size, table
from flaxformer_lite.system.json_text import finite

if TYPE_CHECKING:
    from flaxformer_lite.checkpoints.listing import Evaluations

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands of ``checkpoints``, and the flags of each."""
    subcommands = parser.add_subparsers(title="subcommands", metavar="ls|best|diff", required=True)

    def add(name: str, function: Callable[[argparse.Namespace], None], summary: str, workdir: str) -> Any:
        added = subcommands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        added.add_argument("--workdir", metavar="DIR", required=True, help=workdir)
        added.set_defaults(function=function)
        return added

    of_run = "the work directory of a training run"
    ls = add("ls", _ls, "list them with metrics, sizes and ages; best, latest and averages are marked", of_run)
    ls.add_argument("--json", action="store_true", help="print JSON instead of a table")
    best = add("best", _best, "print the step of the best one", of_run)
    best.add_argument("--metric", default="", metavar="NAME", help="such as wer (default: the run's eval.best_metric)")
    best.add_argument("--path", action="store_true", help="print its path instead")
    diff = add("diff", _diff, "list the parameters that changed most between two", f"{of_run}; A,B: one of each")
    diff.add_argument(
        "--steps",
        metavar="A,B",
        help="each best, latest, average or a step; one applies to both of two runs (default: best)",
    )
    diff.add_argument(
        "--top", type=int, default=20, metavar="N", help="how many to show; 0: all (default: %(default)s)"
    )
    diff.add_argument("--json", action="store_true", help="print JSON, with all of them")
    usages = [added.format_usage().removeprefix("usage: ") for added in (ls, best, diff)]
    parser.usage = "       ".join(usages).strip()


def run(arguments: argparse.Namespace) -> None:
    """Runs the subcommand."""
    arguments.function(arguments)


def _ls(arguments: argparse.Namespace) -> None:
    from flaxformer_lite.checkpoints.listing import list_checkpoints

    rows = list_checkpoints(_evaluations(arguments.workdir))
    if arguments.json:
        print(json.dumps(finite([row._asdict() | {"path": str(row.path)} for row in rows]), indent=1))
        return
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    cells = [
        [
            row.name,
            *(f"{row.metrics[name]:.4g}" if name in row.metrics else "" for name in metrics),
            format_size(row.size),
            f"{format_duration(max(time.time() - row.saved, 0))} ago",
            ", ".join(row.notes),
        ]
        for row in rows
    ]
    print("\n".join(table(("step", *metrics, "size", "saved", ""), cells, left=(len(metrics) + 3,))))


def _best(arguments: argparse.Namespace) -> None:
    found = _evaluations(arguments.workdir)
    metric = arguments.metric.removeprefix("eval/") or found.main
    try:
        step = found.best(metric)
    except InputError as error:
        raise error.with_subject(f"--metric={metric}") from error
    if metric not in found.of(step):
        logger.info(f"no checkpoint was evaluated by {metric}; using the latest")
    print(found.folder / str(step) if arguments.path else step)


def _diff(arguments: argparse.Namespace) -> None:
    require(arguments.top >= 0, f"--top={arguments.top}", "must be 0 or more")
    import jax  # here, because ls and best answer without it

    jax.config.update("jax_platforms", "cpu")  # a training may be using the accelerators
    from flaxformer_lite.checkpoints.diff import diff_checkpoints

    before, after = _two_checkpoints(arguments.workdir, arguments.steps)
    found = diff_checkpoints(before, after)
    if arguments.json:
        changes = [change._asdict() for change in found.changes]
        values = {"relative": found.relative, "changes": changes, "unmatched": found.unmatched}
        print(json.dumps(finite(values), indent=1))
        return
    print(f"{before[0] / str(before[1])} → {after[0] / str(after[1])}:")
    print(f"‖change‖ / ‖before‖ = {found.relative:.3g} over {len(found.changes)} parameters\n")
    shown = found.changes[: arguments.top or None]
    rows = [
        [change.name, "×".join(map(str, change.shape)), f"{change.relative:.3g}", f"{change.largest:.3g}"]
        for change in shown
    ]
    print("\n".join(table(("parameter", "shape", "‖change‖ / ‖before‖", "largest change"), rows)))
    if len(shown) < len(found.changes):
        print(f"  … and {len(found.changes) - len(shown)} that changed less (--top=0 shows all)")
    print("".join(f"  {line}\n" for line in found.unmatched), end="")


def _two_checkpoints(workdirs: str, steps: str | None) -> list[tuple[Path, int]]:
    """Directory and step of two checkpoints: two of one run, or one of each of two."""
    folders, which = workdirs.split(","), (steps or "best").split(",")
    if max(len(folders), len(which)) != 2:
        raise InputError(
            f"--workdir={workdirs}" + f" --steps={steps}" * (steps is not None),
            "does not name two checkpoints",
            "give two steps of one run (--steps=100,best) or two runs (--workdir=runs/a,runs/b)",
        )
    from flaxformer_lite.checkpoints.restore_params import find
    from flaxformer_lite.checkpoints.work_dir import WorkDir

    found = []
    for folder, step in zip(folders * (2 // len(folders)), which * (2 // len(which)), strict=True):
        is_known = step in ("best", "latest", "average") or step.isdecimal()
        require(is_known, f"--steps={steps}", f"{step!r} is neither best, latest, average nor a step")
        work = WorkDir(folder)
        found.append(find(work.checkpoints, int(step) if step.isdecimal() else step, work.config().eval.best_metric))
    return found


def _evaluations(workdir: str) -> Evaluations:
    from flaxformer_lite.checkpoints.listing import Evaluations
    from flaxformer_lite.checkpoints.work_dir import WorkDir

    work = WorkDir(workdir)
    return Evaluations(
        work.checkpoints, metric_writer.read_metrics(Path(workdir) / "metrics.jsonl"), work.config().eval.best_metric
    )
