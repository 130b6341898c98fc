"""Read lines of text and write what a trained model makes of them: one line for each line, in their order.

Everything about the model comes from its work folder. An empty line stays empty.

Examples:
  echo "flaxformer" | flaxformer-lite decode --workdir=runs/g2p
  flaxformer-lite decode --workdir=runs/g2p --input=words.txt --output=phones.txt --beam_size=5
  flaxformer-lite decode --workdir=runs/g2p --input=words.txt --beam_size=5 --n_best=3 --scores
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flaxformer_lite import report
from flaxformer_lite.cli import search_flags
from flaxformer_lite.data import text_files
from flaxformer_lite.errors import InputError, full_disk_named

if TYPE_CHECKING:
    from flaxformer_lite.predict import Prediction

_BATCHES_A_TIME = 16  # decoded before their lines are written: many enough to sort by length, few enough to see go by


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``decode``."""
    search_flags.add_arguments(parser)
    parser.add_argument("--input", metavar="FILE", default="-", help="UTF-8 text, may be .gz (default: standard input)")
    parser.add_argument("--output", metavar="FILE", default="-", help="where to write (default: standard output)")
    parser.add_argument("--n_best", type=int, metavar="N", help="write the N best lines for each line, best first")
    parser.add_argument("--scores", action="store_true", help="write each line as its score, a tab and the text")


def run(arguments: argparse.Namespace) -> int:
    """Decodes; returns the exit code."""
    lines = _read_lines(arguments.input)
    _check_writable(arguments.output)
    import flaxformer_lite  # here, because the model's libraries take seconds to import

    predictor = flaxformer_lite.load(arguments.workdir, step=arguments.step)
    decode = search_flags.decode_config(predictor.config, arguments)
    size = decode.batch_size * _BATCHES_A_TIME
    chunks = (predictor.n_best(lines[start : start + size], decode) for start in range(0, len(lines), size))
    _write(
        arguments.output,
        ("".join(_format(found, decode.n_best, arguments.scores) for found in chunk) for chunk in chunks),
    )
    return 0


def _format(predictions: Sequence[Prediction], n: int, scores: bool) -> str:
    """The n lines that stand for one line of input; empty ones where there are fewer hypotheses."""
    lines = [
        # A model of bytes or characters may well say a line break; it must not shift the lines after it.
        (f"{prediction.score:.4f}\t" if scores else "") + prediction.text.replace("\n", " ").replace("\r", " ")
        for prediction in predictions[:n]
    ]
    lines += ["-inf\t" if scores else ""] * (n - len(lines))
    return "".join(f"{line}\n" for line in lines)


def _read_lines(path: str) -> list[str]:
    """All lines of a file, or of standard input for ``-``."""
    if path != "-":
        return text_files.read_lines(path)
    if sys.stdin.isatty():
        report.say("reading lines from the keyboard; Ctrl-D ends them")
    return text_files.split_lines(sys.stdin.buffer.read(), "standard input")


def _check_writable(path: str) -> None:
    place = Path(path).resolve()
    if path == "-":
        return
    if place.is_dir():
        raise InputError(f"--output={path}: this is a folder; name a file")
    if not os.access(place if _is_special(place) else place.parent, os.W_OK):
        raise InputError(f"--output={path}: cannot write there; name a file in a folder that exists and is yours")


def _write(path: str, texts: Iterable[str]) -> None:
    """Writes to standard output as the texts come, to a file all at once: it is under its name only when complete."""
    if path == "-":
        for text in texts:
            with full_disk_named(Path("standard output")):
                sys.stdout.buffer.write(text.encode())
                sys.stdout.buffer.flush()
        return
    place = Path(path).resolve()  # through a link, which stays one
    content = "".join(texts).encode()
    with full_disk_named(place):
        if _is_special(place):
            place.write_bytes(content)
            return
        draft = place.with_name(f".{place.name}.{os.getpid()}.part")
        try:
            draft.write_bytes(content)
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)


def _is_special(place: Path) -> bool:
    """Whether this is a pipe, /dev/null or the like, which no file may replace."""
    return place.exists() and not place.is_file()
