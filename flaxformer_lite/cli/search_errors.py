"""Measure search errors: how often a more likely target than that of beam search exists, and how often it is empty.

Exact search (Stahlberg & Byrne 2019) proves the most likely target of each source. Its time grows fast with the length
of targets and with the entropy of the model: it is for words and short sentences. There is no length penalty.

Examples:
  flaxformer-lite search-errors --workdir=runs/g2p --split=test --max_examples=200 --beam_size=5
  flaxformer-lite search-errors --workdir=runs/g2p --max_examples=200 --beam_size=1 --json
"""

from __future__ import annotations

import argparse
import dataclasses
import logging

from flaxformer_lite.cli import decode_flags
from flaxformer_lite.errors import require
from flaxformer_lite.system.json_text import to_json

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    decode_flags.add_model(parser)
    parser.add_argument("--beam_size", type=int, metavar="N", help="hypotheses per line (default: the run's)")
    parser.add_argument("--split", choices=["train", "validation", "test"], default="test", help="default: test")
    parser.add_argument("--max_examples", type=int, default=100, metavar="N", help="spread over the split; 0: all")
    parser.add_argument(
        "--budget", type=int, default=20_000, metavar="N", help="partial targets scored for a source before giving up"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with every error, instead of a table")


def run(arguments: argparse.Namespace) -> int:
    for flag, least in (("beam_size", 1), ("max_examples", 0), ("budget", 1)):
        value = getattr(arguments, flag)
        require(value is None or value >= least, f"--{flag}={value}", f"must be at least {least}")
    from flaxformer_lite.data import tasks  # here, because jax takes seconds to import
    from flaxformer_lite.inference.search_errors import compare_searches, summarize

    model = decode_flags.load_model(arguments)
    decode = model.config.decode
    decode = dataclasses.replace(decode, beam_size=arguments.beam_size or decode.beam_size)
    examples = tasks.load(model.config.data, arguments.split, model.config.seed).sample(arguments.max_examples)
    sources = [line for line in examples.sources if line.strip()]
    found = []
    for comparison in compare_searches(model, sources, decode, arguments.budget):
        found.append(comparison)
        if comparison.is_error:
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
            for c in found if c.is_error
        ]  # fmt: skip
        print(to_json({"examples": len(found), **values, "misses": misses}))
        return 0
    print(f"{len(found)} sources of {arguments.split}, beam {decode.beam_size}")
    print(f"  search errors     {values['search_errors']:6.2f} %   a more likely target than beam search's exists")
    print(f"  empty is best     {values['empty_is_best']:6.2f} %   the most likely target is empty")
    print(f"  proven            {values['proven']:6.2f} %   of the sources, within the budget")
    print(f"  partial targets   {values['expanded']:6.0f}     scored per source, on average")
    return 0
