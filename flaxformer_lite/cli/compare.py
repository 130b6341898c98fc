"""Compare runs: what differs between their configs, their final and best metrics, mean ± deviation over seeds.

A DIR is the work folder of a run, or a folder that holds such at any depth, as a sweep's does. What tells the runs
apart is shown, best run first; runs that differ in nothing but their seed are one group.

--significance=test says whether differences on the test split are more than chance, by paired bootstrap against the
first run named. It needs what each run made of the split: evaluate --workdir=DIR --split=test --save_decodes keeps it.
p is the chance of such a difference, in that direction, if there were none (BLEU and chrF: by sacreBLEU's own test).

Examples:
  flaxformer-lite compare runs/a runs/b
  flaxformer-lite compare runs/sweep --metric=eval/wer --csv=sweep.csv --html=sweep.html
  flaxformer-lite compare runs/a runs/b --significance=test
"""

from __future__ import annotations

import argparse
import logging
import shutil
from pathlib import Path

from flaxformer_lite.cli import output
from flaxformer_lite.compare import decodes

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``compare``."""
    parser.add_argument("folders", metavar="DIR", nargs="+", type=Path, help="work folders, or folders that hold such")
    parser.add_argument(
        "--metric", default="", help="by which runs are ranked, such as eval/wer (default: their eval.best_metric)"
    )
    parser.add_argument("--csv", metavar="FILE", help="write all differing settings and all metrics, a row a run")
    parser.add_argument("--json", metavar="FILE", help="write the same and the groups")
    parser.add_argument("--html", metavar="FILE", help="write one page with curves and tables, to open from disk")
    parser.add_argument("--png", metavar="FOLDER", help="draw curves, and the metric against each setting, for papers")
    parser.add_argument(
        "--significance",
        metavar="NAME",
        help="test what the runs made of a split, such as test; A,B: what was saved under these names",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compares; returns the exit code."""
    for name in ("csv", "json", "html"):
        if path := getattr(arguments, name):
            output.check_writable(path, f"--{name}")
    if arguments.png:
        output.check_folder(arguments.png, "--png")
    given = arguments.significance
    names = [] if given is None else [decodes.checked_name(name, "--significance") for name in given.split(",")]
    from flaxformer_lite.compare import export, table  # here, because numpy takes longer to import than --help may
    from flaxformer_lite.compare.reading import read_runs
    from flaxformer_lite.compare.runs import choose_metric, compare
    from flaxformer_lite.compare.significance_table import hold_trial

    found = read_runs(arguments.folders)
    comparison = compare(found.runs, choose_metric(found.runs, arguments.metric))
    trial = hold_trial(found.runs, names) if names else None
    for line in (*found.left_out, *([trial.missing] if trial and trial.missing else [])):
        logger.info(f"left out: {line}")
    if repeated := comparison.repeated:
        names = ", ".join(run.name for run in repeated)
        logger.info(
            f"{names}: of these some are the same run, seed and all; a mean over seeds counts each; name each run once"
        )
    if "-" not in (arguments.csv, arguments.json, arguments.html):
        width = max(shutil.get_terminal_size().columns, 80)
        print(table.render(comparison, width) + (f"\n{trial.render(width)}" if trial else ""), end="")
    if arguments.csv:
        output.write(arguments.csv, [export.to_csv(comparison)])
    if arguments.json:
        output.write(arguments.json, [export.to_json(comparison, trial.to_json() if trial else [])])
    if arguments.html:
        from flaxformer_lite.compare import page

        output.write(arguments.html, [page.render(comparison)])
    if arguments.png:
        from flaxformer_lite.compare import pictures  # here, because matplotlib takes half a second to import

        for path in pictures.draw(comparison, Path(arguments.png)):
            logger.info(f"drew {path}")
    return 0
