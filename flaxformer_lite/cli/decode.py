"""Decode lines of text with a trained model: one line of output for each line of input, in their order.

Everything about the model comes from its work directory. A blank line stays empty.

Examples:
  echo "flaxformer" | flaxformer-lite decode --workdir=runs/g2p
  flaxformer-lite decode --workdir=runs/g2p --input=words.txt --output=phones.txt --beam_size=5
  flaxformer-lite decode --workdir=runs/g2p --input=words.txt --beam_size=5 --n_best=3 --format=jsonl --attention
  flaxformer-lite decode --workdir=runs/g2p --input=words.txt --method=sample --num_samples=20 --top_p=0.9
  flaxformer-lite decode --workdir=runs/a,runs/b,runs/c --input=words.txt --method=mbr --utility=chrf
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxformer_lite.cli import decode_flags, multihost_flags, output
from flaxformer_lite.cli.score import scored_values
from flaxformer_lite.data import readers
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.system.json_text import to_json

if TYPE_CHECKING:
    from flaxformer_lite.data.vocabularies.base import Vocabulary
    from flaxformer_lite.inference.predict import Prediction, Predictor
    from flaxformer_lite.inference.scoring import Scorer

logger = logging.getLogger(__name__)

_BATCHES_PER_CHUNK = 16  # decoded before their lines are written: enough to sort by length, few enough to see progress
_REPORTED_LINES = 10  # lines with unknown tokens that are reported one by one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    decode_flags.add_arguments(parser, n_best=True)
    parser.add_argument("--input", metavar="FILE", default="-", help="UTF-8 text, may be .gz (default: standard input)")
    parser.add_argument("--output", metavar="FILE", default="-", help="where to write (default: standard output)")
    parser.add_argument("--prefix", metavar="FILE", help="line i is the text that output i begins with; blank: any")
    parser.add_argument(
        "--format",
        choices=["text", "tsv", "jsonl"],
        default="text",
        help="text: n_best lines per line (default); tsv: line number, rank, score, text; jsonl: one object per line, "
        "with tokens",
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="jsonl: with the log-probability of each token and its attention weights over the source tokens; the last "
        "ones are those of the end token",
    )
    parser.add_argument("--scores", action="store_true", help="text: each line is a score, a tab and the text")
    multihost_flags.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    reads_stdin = arguments.input == "-"
    require(not reads_stdin or not arguments.processes, "--input", "several processes cannot share standard input",
            "name a file")  # fmt: skip
    lines = _read_lines(arguments.input)
    prefixes = _read_prefixes(arguments.prefix, len(lines)) if arguments.prefix else []
    output.check_writable(arguments.output)
    if arguments.attention and arguments.format != "jsonl":
        raise InputError("--attention", f"needs --format=jsonl, not {arguments.format}")
    multihost_flags.join(arguments)
    from flaxformer_lite.inference.scoring import Scorer  # here, because jax takes seconds to import

    model = decode_flags.load_model(arguments)
    decode = decode_flags.checked_decode_config(model, arguments)
    scorer = Scorer(model, decode) if arguments.attention else None
    model.tokenize_prefixes(prefixes)  # reports unknown tokens before the first line is decoded
    _report_unknown_tokens(model.vocabularies[0], lines)
    size = decode.batch_size * _BATCHES_PER_CHUNK

    def chunks() -> Iterator[str]:
        for start in range(0, len(lines), size):
            chunk = slice(start, start + size)
            found = model.n_best(lines[chunk], decode, prefixes[chunk])
            match arguments.format:
                case "jsonl":
                    numbered = zip(range(start + 1, len(lines) + 1), lines[chunk], found, strict=False)
                    records = [_json_values(*these, model) for these in numbered]
                    if scorer:
                        _add_attention(records, found, scorer)
                    yield "".join(to_json(record) + "\n" for record in records)
                case "tsv":
                    yield "".join(_tsv_rows(number, these) for number, these in enumerate(found, start=start + 1))
                case "text":
                    yield "".join(_text_lines(predictions, decode.n_best, arguments.scores) for predictions in found)

    output.write(arguments.output, chunks())
    return 0


def _report_unknown_tokens(source: Vocabulary, lines: Sequence[str]) -> None:
    num_lines = 0
    for number, line in enumerate(lines, start=1):
        if unknown := source.unknown_tokens(line):
            num_lines += 1
            if num_lines <= _REPORTED_LINES:
                tokens = ", ".join(map(repr, dict.fromkeys(unknown)))
                logger.warning(f"line {number}: not in the source vocabulary: {tokens}")
    if num_lines > _REPORTED_LINES:
        logger.warning(f"{num_lines} lines have tokens that are not in the source vocabulary")


def _json_values(number: int, line: str, predictions: Sequence[Prediction], model: Predictor) -> dict[str, Any]:
    hypotheses = [{"text": p.text, "score": round(p.score, 6), "tokens": model.tokens(p)} for p in predictions]
    return {"line": number, "source": line, "hypotheses": hypotheses}


def _add_attention(records: Sequence[dict[str, Any]], found: Sequence[Sequence[Prediction]], scorer: Scorer) -> None:
    """Adds log-probabilities and attention weights, which are computed with teacher forcing."""
    hypotheses = [(record, hypothesis, p) for record, predictions in zip(records, found, strict=True)
                  for hypothesis, p in zip(record["hypotheses"], predictions, strict=True) if p.ids]  # fmt: skip
    scored = scorer.score_ids([record["source"] for record, _, _ in hypotheses], [p.ids for _, _, p in hypotheses])
    for (record, hypothesis, _), target in zip(hypotheses, scored, strict=True):
        record["source_tokens"] = target.source_tokens
        values = scored_values(target)
        # The tokens are there already, without the end token.
        hypothesis |= {key: values[key] for key in ("log_prob", "log_probs", "attention")}


def _tsv_rows(number: int, predictions: Sequence[Prediction]) -> str:
    ranked = enumerate(predictions, start=1)
    return "".join(f"{number}\t{rank}\t{p.score:.4f}\t{_one_line(p.text)}\n" for rank, p in ranked)


def _text_lines(predictions: Sequence[Prediction], n: int, scores: bool) -> str:
    """The n output lines of one input line; empty ones where there are fewer hypotheses."""
    lines = [(f"{p.score:.4f}\t" if scores else "") + _one_line(p.text) for p in predictions]
    lines += ["-inf\t" if scores else ""] * (n - len(lines))
    return "".join(f"{line}\n" for line in lines)


def _one_line(text: str) -> str:
    """Text without line breaks and tabs, which models of bytes or characters may generate."""
    return text.translate({ord(sign): " " for sign in "\n\r\t"})


def _read_prefixes(path: str, count: int) -> list[str]:
    if not Path(path).expanduser().exists():
        raise InputError(f"--prefix={path}", "there is no such file", "name one with a line for each line of the input")
    prefixes = readers.read_lines(path)
    reason = f"has {len(prefixes)} lines, the input {count}"
    require(len(prefixes) == count, f"--prefix={path}", reason, "give one for each line, blank for none")
    return prefixes


def _read_lines(path: str) -> list[str]:
    """All lines of a file, or of standard input for ``-``."""
    if path != "-":
        return readers.read_lines(path)
    if sys.stdin.isatty():
        logger.info("reading lines from the keyboard; Ctrl-D ends them")
    return readers.split_lines(sys.stdin.buffer.read(), "standard input")
