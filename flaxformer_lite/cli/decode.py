"""Read lines of text and write what a trained model makes of them: one line for each line, in their order.

Everything about the model comes from its work folder. An empty line stays empty.

Examples:
  echo "flaxformer" | flaxformer-lite decode --workdir=runs/g2p
  flaxformer-lite decode --workdir=runs/g2p --input=words.txt --output=phones.txt --beam_size=5
  flaxformer-lite decode --workdir=runs/g2p --input=words.txt --beam_size=5 --n_best=3 --format=jsonl --attention
  flaxformer-lite decode --workdir=runs/g2p --input=words.txt --method=sample --num_samples=20 --top_p=0.9
  flaxformer-lite decode --workdir=runs/a,runs/b,runs/c --input=words.txt --method=mbr --utility=chrf
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxformer_lite.cli import decode_flags, multihost_flags, output
from flaxformer_lite.cli.score import as_json
from flaxformer_lite.data import readers
from flaxformer_lite.errors import InputError

if TYPE_CHECKING:
    from flaxformer_lite.inference.predict import Prediction, Predictor
    from flaxformer_lite.inference.scoring import Scorer

logger = logging.getLogger(__name__)

_BATCHES_A_TIME = 16  # decoded before their lines are written: many enough to sort by length, few enough to see go by


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``decode``."""
    decode_flags.add_arguments(parser)
    parser.add_argument("--input", metavar="FILE", default="-", help="UTF-8 text, may be .gz (default: standard input)")
    parser.add_argument("--output", metavar="FILE", default="-", help="where to write (default: standard output)")
    parser.add_argument("--n_best", type=int, metavar="N", help="write the N best outputs for each line, best first")
    parser.add_argument("--prefix", metavar="FILE", help="line i is what output i must begin with; blank: anything")
    parser.add_argument(
        "--format",
        choices=["text", "tsv", "jsonl"],
        default="text",
        help="text: n_best lines for each line (default); tsv: number of the line, rank, score, text; jsonl: an object "
        "for each line, with tokens",
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="jsonl: with each token's log-probability and how much of each source token it read; after those of the "
        "tokens come the end token's",
    )
    parser.add_argument("--scores", action="store_true", help="text: each line is its score, a tab and the text")
    multihost_flags.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Decodes; returns the exit code."""
    if arguments.input == "-" and arguments.processes:
        raise InputError("--input: name a file; several processes cannot all read one standard input")
    lines = _read_lines(arguments.input)
    prefixes = _read_prefixes(arguments.prefix, len(lines)) if arguments.prefix else []
    output.check_writable(arguments.output)
    if arguments.attention and arguments.format != "jsonl":
        raise InputError(f"--attention needs --format=jsonl, not {arguments.format}")
    multihost_flags.join(arguments)
    import flaxformer_lite  # here, because the model's libraries take seconds to import
    from flaxformer_lite.inference.scoring import Scorer

    predictor = flaxformer_lite.load(decode_flags.folders(arguments.workdir), step=arguments.step)
    decode = decode_flags.checked_decode_config(predictor, arguments)
    if arguments.seed is not None:
        predictor.seed = arguments.seed
    scorer = Scorer(predictor, decode) if arguments.attention else None
    predictor.tokenize_prefixes(prefixes)  # names what cannot be said before the first line is decoded
    size = decode.batch_size * _BATCHES_A_TIME

    def chunks() -> Iterator[str]:
        for start in range(0, len(lines), size):
            chunk = slice(start, start + size)
            found = predictor.n_best(lines[chunk], decode, prefixes[chunk])
            numbered = zip(range(start + 1, len(lines) + 1), lines[chunk], found, strict=False)
            match arguments.format:
                case "jsonl":
                    records = [_as_json(*these, predictor) for these in numbered]
                    if scorer:
                        _add_attention(records, found, scorer)
                    yield "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
                case "tsv":
                    yield "".join(_as_table(number, predictions) for number, _, predictions in numbered)
                case "text":
                    yield "".join(_as_text(predictions, decode.n_best, arguments.scores) for predictions in found)

    output.write(arguments.output, chunks())
    return 0


def _as_json(number: int, line: str, predictions: Sequence[Prediction], predictor: Predictor) -> dict[str, Any]:
    hypotheses = [{"text": p.text, "score": round(p.score, 6), "tokens": predictor.tokens(p)} for p in predictions]
    return {"line": number, "source": line, "hypotheses": hypotheses}


def _add_attention(records: Sequence[dict[str, Any]], found: Sequence[Sequence[Prediction]], scorer: Scorer) -> None:
    """Reads what was said once more, all at once, to see where it came from."""
    said = [(record, hypothesis, p) for record, predictions in zip(records, found, strict=True)
            for hypothesis, p in zip(record["hypotheses"], predictions, strict=True) if p.ids]  # fmt: skip
    scored = scorer.hypotheses([record["source"] for record, _, _ in said], [p.ids for _, _, p in said])
    for (record, hypothesis, _), these in zip(said, scored, strict=True):
        record["source_tokens"] = these.source_tokens
        # Not the tokens, which are there already, without the end token.
        hypothesis |= {key: as_json(these)[key] for key in ("log_prob", "log_probs", "attention")}


def _as_table(number: int, predictions: Sequence[Prediction]) -> str:
    ranked = enumerate(predictions, start=1)
    return "".join(f"{number}\t{rank}\t{p.score:.4f}\t{_one_line(p.text)}\n" for rank, p in ranked)


def _as_text(predictions: Sequence[Prediction], n: int, scores: bool) -> str:
    """The n lines that stand for one line of input; empty ones where there are fewer hypotheses."""
    lines = [(f"{p.score:.4f}\t" if scores else "") + _one_line(p.text) for p in predictions]
    lines += ["-inf\t" if scores else ""] * (n - len(lines))
    return "".join(f"{line}\n" for line in lines)


def _one_line(text: str) -> str:
    """A model of bytes or characters may well say a line break or a tab; it must not shift what comes after it."""
    return text.translate({ord(sign): " " for sign in "\n\r\t"})


def _read_prefixes(path: str, count: int) -> list[str]:
    if not Path(path).expanduser().exists():
        raise InputError(f"--prefix={path}: there is no such file; give one with a line for each line of the input")
    prefixes = readers.read_lines(path)
    if len(prefixes) != count:
        raise InputError(f"--prefix={path} has {len(prefixes)} lines, the input {count}: give one for each, or blank")
    return prefixes


def _read_lines(path: str) -> list[str]:
    """All lines of a file, or of standard input for ``-``."""
    if path != "-":
        return readers.read_lines(path)
    if sys.stdin.isatty():
        logger.info("reading lines from the keyboard; Ctrl-D ends them")
    return readers.split_lines(sys.stdin.buffer.read(), "standard input")
