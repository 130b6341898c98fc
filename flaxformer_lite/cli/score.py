"""Score given targets: log P(target | source) of each pair of lines, by a trained model.

Log-probabilities are in nats, include the end token, and are not normalized by length. Several work directories between
commas are an ensemble.

Examples:
  flaxformer-lite score --workdir=runs/mine --source=test.de --target=test.en
  flaxformer-lite score --workdir=runs/mine --source=test.de --target=test.en --format=tsv
  flaxformer-lite score --workdir=runs/mine --source=test.de --target=test.en --format=jsonl --output=scores.jsonl
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from flaxformer_lite.cli import decode_flags, multihost_flags, output
from flaxformer_lite.data import readers
from flaxformer_lite.errors import require
from flaxformer_lite.system.json_text import to_json

if TYPE_CHECKING:
    from flaxformer_lite.inference.scoring import ScoredTarget


def add_arguments(parser: argparse.ArgumentParser) -> None:
    decode_flags.add_model(parser)
    parser.add_argument("--source", metavar="FILE", required=True, help="UTF-8 text, one source per line, may be .gz")
    parser.add_argument("--target", metavar="FILE", required=True, help="line i is a target of source i")
    parser.add_argument("--output", metavar="FILE", default="-", help="where to write (default: standard output)")
    parser.add_argument(
        "--format",
        choices=["text", "tsv", "jsonl"],
        default="text",
        help="text: a log-probability per line (default); tsv: log-probability, number of tokens, source, target; "
        "jsonl: one object per line, with each token's log-probability and attention weights",
    )
    multihost_flags.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    sources, targets = readers.read_lines(arguments.source), readers.read_lines(arguments.target)
    require(
        len(sources) == len(targets),
        f"--source={arguments.source}",
        f"has {len(sources)} lines and --target={arguments.target} {len(targets)}",
        "line i of one must belong to line i of the other",
    )
    output.check_writable(arguments.output)
    multihost_flags.join(arguments)
    found = decode_flags.load_model(arguments).score(sources, targets)
    lines = (_line(arguments.format, *these) for these in zip(sources, targets, found, strict=True))
    output.write(arguments.output, lines)
    return 0


def _line(form: str, source: str, target: str, scored: ScoredTarget) -> str:
    if form == "jsonl":
        return to_json({"source": source, "target": target, **scored_values(scored)}) + "\n"
    if form == "tsv":
        return f"{scored.log_prob:.4f}\t{len(scored.tokens)}\t{source}\t{target}\n"
    return f"{scored.log_prob:.4f}\n"


def scored_values(scored: ScoredTarget) -> dict[str, Any]:
    """A scored target as values for JSON: tokens, their log-probabilities, and a row of attention weights for each."""
    return {
        "log_prob": round(scored.log_prob, 6),
        "source_tokens": scored.source_tokens,
        "tokens": scored.tokens,
        "log_probs": [round(float(x), 6) for x in scored.log_probs],
        "attention": [[round(float(x), 4) for x in row] for row in scored.attention],
    }
