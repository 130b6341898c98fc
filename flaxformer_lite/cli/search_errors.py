"""Say what beam search misses: how often a likelier target exists, and how often the likeliest one is empty.

Exact search (Stahlberg & Byrne 2019) proves the likeliest target of each source. Its time grows fast with the length of
targets and with how unsure the model is: meant for words and short sentences. No length penalty is in play.

Examples:
  flaxformer-lite search-errors --workdir=runs/g2p --split=test --max_examples=200 --beam_size=5
  flaxformer-lite search-errors --workdir=runs/g2p --max_examples=200 --beam_size=1 --json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging

from flaxformer_lite.cli import decode_flags
from flaxformer_lite.errors import InputError

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``search-errors``."""
    decode_flags.add_model(parser)
    parser.add_argument("--beam_size", type=int, metavar="N", help="hypotheses followed at a time (default: the run's)")
    parser.add_argument("--split", choices=["train", "validation", "test"], default="test", help="default: test")
    parser.add_argument("--max_examples", type=int, default=100, metavar="N", help="spread over the split; 0: all")
    parser.add_argument(
        "--budget", type=int, default=20_000, metavar="N", help="beginnings read for a source before giving up"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with every miss, in place of the table")


def run(arguments: argparse.Namespace) -> int:
    """Searches twice; returns the exit code."""
    for flag, least in (("beam_size", 1), ("max_examples", 0), ("budget", 1)):
        value = getattr(arguments, flag)
        if value is not None and value < least:
            raise InputError(f"--{flag}={value}: must be at least {least}")
    import flaxformer_lite  # here, because the model's libraries take seconds to import
    from flaxformer_lite.data import tasks
    from flaxformer_lite.inference.search_errors import compare, summarize

    predictor = flaxformer_lite.load(decode_flags.folders(arguments.workdir), step=arguments.step)
    decode = predictor.config.decode
    decode = dataclasses.replace(decode, beam_size=arguments.beam_size or decode.beam_size)
    examples = tasks.load(predictor.config.data, arguments.split, predictor.config.seed).sample(arguments.max_examples)
    sources = [line for line in examples.sources if line.strip()]
    found = []
    for comparison in compare(predictor, sources, decode, arguments.budget):
        found.append(comparison)
        if comparison.missed:
            beam, exact = comparison.found, comparison.exact
            logger.info(
                f"{comparison.source}: beam {beam.text!r} {beam.score:.3f}, exact {comparison.text!r} "
                f"{exact.log_prob:.3f}"
            )
    values = summarize(found)
    if arguments.json:
        misses = [
            {"source": c.source, "found": c.found.text, "found_log_prob": c.found.score, "exact": c.text,
             "exact_log_prob": c.exact.log_prob, "proven": c.exact.proven}
            for c in found if c.missed
        ]  # fmt: skip
        print(json.dumps({"examples": len(found), **values, "misses": misses}, ensure_ascii=False))
        return 0
    print(f"{len(found)} sources of {arguments.split}, beam {decode.beam_size}")
    print(f"  search errors     {values['search_errors']:6.2f} %   a likelier target than beam search's exists")
    print(f"  empty is best     {values['empty_is_best']:6.2f} %   the likeliest target says nothing")
    print(f"  proven            {values['proven']:6.2f} %   of the sources, within the budget")
    print(f"  beginnings read   {values['read']:6.0f}     for a source, in the mean")
    return 0
