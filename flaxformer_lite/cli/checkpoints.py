"""Look at the checkpoints of a run: which there are, which is best, and what moved between two.

Examples:
  flaxformer-lite checkpoints ls --workdir=runs/g2p
  flaxformer-lite decode --workdir=runs/g2p --step=$(flaxformer-lite checkpoints best --workdir=runs/g2p --metric=per)
  flaxformer-lite checkpoints diff --workdir=runs/g2p --steps=500,best
  flaxformer-lite checkpoints diff --workdir=runs/a,runs/b

flaxformer-lite checkpoints ls --help (best, diff) explains one of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxformer_lite.errors import InputError
from flaxformer_lite.monitoring import metric_writer
from flaxformer_lite.system.console import format_duration, format_size, table

if TYPE_CHECKING:
    from flaxformer_lite.checkpoints.listing import Evaluations

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words after ``checkpoints``, and the flags of each."""
    words = parser.add_subparsers(title="what to do", metavar="ls|best|diff", required=True)

    def add(word: str, act: Callable[[argparse.Namespace], None], summary: str, folders: str) -> Any:
        added = words.add_parser(word, help=summary, description=summary, allow_abbrev=False)
        added.add_argument("--workdir", metavar="FOLDER", required=True, help=folders)
        added.set_defaults(act=act)
        return added

    of_run = "the work folder of a training run"
    ls = add("ls", _ls, "list them: metrics, sizes, ages; the best, the latest, and where averages are", of_run)
    ls.add_argument("--json", action="store_true", help="print JSON instead of a table")
    best = add("best", _best, "print the step of the best one that is there", of_run)
    best.add_argument("--metric", default="", metavar="NAME", help="such as wer (default: the run's eval.best_metric)")
    best.add_argument("--path", action="store_true", help="print its folder instead")
    diff = add("diff", _diff, "say which parameters moved most from one to the other", f"{of_run}; A,B: one of each")
    diff.add_argument(
        "--steps",
        default="best",
        metavar="A,B",
        help="which: best, latest, average or a step; one name serves two runs (default: %(default)s)",
    )
    diff.add_argument(
        "--top", type=int, default=20, metavar="N", help="how many to show; 0: all (default: %(default)s)"
    )
    diff.add_argument("--json", action="store_true", help="print JSON, with all of them")
    usages = [added.format_usage().removeprefix("usage: ") for added in (ls, best, diff)]
    parser.usage = "       ".join(usages).strip()


def run(arguments: argparse.Namespace) -> None:
    """Does what the word after ``checkpoints`` says."""
    arguments.act(arguments)


def _ls(arguments: argparse.Namespace) -> None:
    from flaxformer_lite.checkpoints.listing import list_checkpoints

    rows = list_checkpoints(_evaluations(arguments.workdir))
    if arguments.json:
        values = [row._asdict() | {"path": str(row.path), "metrics": metric_writer.finite(row.metrics)} for row in rows]
        print(json.dumps(values, indent=1))
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
    step = found.best(metric)
    if metric not in found.of(step):
        logger.info(f"no checkpoint there was evaluated by {metric}; the latest counts as the best")
    print(found.folder / str(step) if arguments.path else step)


def _diff(arguments: argparse.Namespace) -> None:
    if arguments.top < 0:
        raise InputError(f"--top={arguments.top}: must be 0 or more")
    import jax  # here, because ls and best answer without it

    jax.config.update("jax_platforms", "cpu")  # a run may be at work on what else there is
    from flaxformer_lite.checkpoints.diff import compare

    before, after = _two_checkpoints(arguments.workdir.split(","), arguments.steps.split(","))
    found = compare(before, after)
    if arguments.json:
        changes = [change._asdict() | metric_writer.finite({"relative": change.relative}) for change in found.changes]
        values = metric_writer.finite({"relative": found.relative}) | {"changes": changes, "unlike": found.unlike}
        print(json.dumps(values, indent=1))
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
        print(f"  … and {len(found.changes) - len(shown)} that moved less (--top=0 shows all)")
    print("".join(f"  {line}\n" for line in found.unlike), end="")


def _two_checkpoints(folders: list[str], steps: list[str]) -> list[tuple[Path, int]]:
    """Two of one run, or one each of two: the folders they lie in and their numbers there."""
    if max(len(folders), len(steps)) != 2:
        raise InputError(
            f"--workdir={','.join(folders)} --steps={','.join(steps)}: name two checkpoints, either two of one run "
            "(--steps=100,best) or one each of two (--workdir=runs/a,runs/b)"
        )
    from flaxformer_lite.checkpoints.restoring import find
    from flaxformer_lite.checkpoints.work_dir import WorkDir

    found = []
    for folder, step in zip(folders * (2 // len(folders)), steps * (2 // len(steps)), strict=True):
        if step not in ("best", "latest", "average") and not step.isdecimal():
            raise InputError(f"--steps={','.join(steps)}: {step!r} is neither best, latest, average nor a step")
        work = WorkDir(folder)
        which = int(step) if step.isdecimal() else step
        found.append(find(work.checkpoints, which, work.config().eval.best_metric))
    return found


def _evaluations(workdir: str) -> Evaluations:
    from flaxformer_lite.checkpoints.listing import Evaluations
    from flaxformer_lite.checkpoints.work_dir import WorkDir

    work = WorkDir(workdir)
    return Evaluations(
        work.checkpoints, metric_writer.read(Path(workdir) / "metrics.jsonl"), work.config().eval.best_metric
    )
