"""Compare runs: differing settings, final and best metrics, and mean ± standard deviation over seeds.

A DIR is the work directory of a run, or a directory that contains some at any depth, such as a sweep's. Runs are ranked
best first; runs that differ only in their seed are one group.

--significance=test tests the differences on the test split by paired bootstrap against the first run named. It needs
stored decodes of each run, which evaluate --workdir=DIR --split=test --save_decodes writes. p is the probability of a
such difference, in that direction, under the null hypothesis (BLEU and chrF: sacreBLEU's implementation).

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
from flaxformer_lite.compare.decode_records import check_name
from flaxformer_lite.errors import InputError

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="DIR", nargs="+", type=Path, help="work directories, or directories of some")
    parser.add_argument(
        "--metric", default="", help="metric to rank by, such as eval/wer (default: eval.best_metric of the runs)"
    )
    parser.add_argument("--csv", metavar="FILE", help="write all differing settings and all metrics, one row per run")
    parser.add_argument("--json", metavar="FILE", help="write the same and the groups over seeds")
    parser.add_argument("--html", metavar="FILE", help="write a self-contained page with curves and tables")
    parser.add_argument("--png", metavar="DIR", help="draw curves, and the metric against each setting, for papers")
    parser.add_argument(
        "--significance",
        metavar="NAME",
        help="test the runs' stored decodes of a split, such as test; A,B: decodes that were saved under these names",
    )


def run(arguments: argparse.Namespace) -> int:
    for name in ("csv", "json", "html"):
        if path := getattr(arguments, name):
            output.check_writable(path, f"--{name}")
    if arguments.png:
        output.check_folder(arguments.png, "--png")
    from flaxformer_lite.compare import export, text_table  # here, because numpy takes longer to import than --help may
    from flaxformer_lite.compare.comparison import choose_metric, compare
    from flaxformer_lite.compare.load_runs import load_runs
    from flaxformer_lite.compare.significance_table import significance_table

    names = _decode_names(arguments.significance)
    loaded = load_runs(arguments.paths)
    try:
        comparison = compare(loaded.runs, choose_metric(loaded.runs, arguments.metric))
    except InputError as error:
        raise error.with_subject(f"--metric={arguments.metric}" if arguments.metric else "--metric") from error
    tests = significance_table(loaded.runs, names) if names else None
    for message in (*loaded.skipped, *([tests.missing] if tests and tests.missing else [])):
        logger.warning(f"skipped {message}")
    if duplicates := comparison.duplicates:
        logger.warning(
            f"{', '.join(run.name for run in duplicates)}: some of these are the same run with the same seed, and "
            "means over seeds count each; name each run once"
        )
    if "-" not in (arguments.csv, arguments.json, arguments.html):
        width = max(shutil.get_terminal_size().columns, 80)
        print(text_table.render(comparison, width) + (f"\n{tests.render(width)}" if tests else ""), end="")
    if arguments.csv:
        output.write(arguments.csv, [export.to_csv(comparison)])
    if arguments.json:
        output.write(arguments.json, [export.to_json(comparison, tests.to_json() if tests else [])])
    if arguments.html:
        from flaxformer_lite.compare import html_page

        output.write(arguments.html, [html_page.render(comparison)])
    if arguments.png:
        from flaxformer_lite.compare import figures  # here, because matplotlib takes half a second to import

        for path in figures.draw(comparison, Path(arguments.png)):
            logger.info(f"wrote {path}")
    return 0


def _decode_names(text: str | None) -> list[str]:
    try:
        return [] if text is None else [check_name(name) for name in text.split(",")]
    except InputError as error:
        raise error.with_subject(f"--significance={text}") from error
