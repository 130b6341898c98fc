"""Measure a trained model on a split of its data: loss, token accuracy, and the metrics of its config by decoding.

Examples:
  flaxformer-lite evaluate --workdir=runs/g2p --split=test
  flaxformer-lite evaluate --workdir=runs/g2p --split=test --beam_size=5 --length_penalty=0.6 --json
  flaxformer-lite evaluate --workdir=runs/g2p --split=test --beam_size=1 --save_decodes=greedy
  flaxformer-lite evaluate --workdir=runs/en-de --text=test.en,test.de
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from flaxformer_lite.cli import decode_flags, multihost_flags
from flaxformer_lite.compare import decodes
from flaxformer_lite.compare.decodes import Decodes
from flaxformer_lite.config.dataclasses import Config, DecodeConfig
from flaxformer_lite.errors import InputError

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``evaluate``."""
    decode_flags.add_arguments(parser)
    parser.add_argument(
        "--split", choices=["validation", "test", "train"], default="validation", help="(default: validation)"
    )
    parser.add_argument(
        "--text",
        metavar="FILES",
        default="",
        help="measure on SOURCE,TARGET or FILE.tsv in the place of what the run's config names; an imported model's "
        "config names none",
    )
    parser.add_argument(
        "--max_examples", type=int, default=0, metavar="N", help="only N, spread over it (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of a table")
    parser.add_argument(
        "--save_decodes",
        nargs="?",
        const="",
        metavar="NAME",
        help="keep sources, references and hypotheses as decodes/NAME.jsonl in the work folder, for compare\n"
        "--significance=NAME (default: the split's name)",
    )
    multihost_flags.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluates; returns the exit code."""
    if arguments.max_examples < 0:
        raise InputError(f"--max_examples={arguments.max_examples}: must be at least 0 (all)")
    folders = decode_flags.folders(arguments.workdir)
    kept = _place_of_decodes(arguments, folders)
    multihost_flags.join(arguments)
    import flaxformer_lite  # here, because the model's libraries take seconds to import
    from flaxformer_lite.inference.evaluate import evaluate_split

    predictor = flaxformer_lite.load(folders, step=arguments.step)
    decode = decode_flags.checked_decode_config(predictor, arguments)
    if arguments.seed is not None:
        predictor.seed = arguments.seed
    if arguments.text:
        predictor.config = _on_text(predictor.config, arguments.split, arguments.text)
    found = evaluate_split(predictor, arguments.split, decode, arguments.max_examples)
    step = "average" if arguments.step == "average" else predictor.step
    settings = {
        "workdir": arguments.workdir,
        "step": step,
        "split": arguments.split,
        "max_examples": arguments.max_examples,
        "seed": predictor.seed,
        "decode": dataclasses.asdict(decode),
        "metrics": found.metrics,
    } | ({"text": arguments.text} if arguments.text else {})
    if kept:
        decodes.save(Decodes(settings, found.examples.sources, found.examples.references, found.hypotheses), kept)
        logger.info(f"kept what was decoded in {kept}")
    if arguments.json:
        print(json.dumps(settings, indent=2))
    else:
        print(f"{arguments.text or arguments.split}, step {step}, {_named(decode)}\n")
        width = max(map(len, found.metrics), default=0)
        for name, value in found.metrics.items():
            print(f"{name:<{width}}  {value:10.4f}")
    return 0


def _on_text(config: Config, split: str, files: str) -> Config:
    """The config of a run, with other text as this split."""
    text = dataclasses.replace(config.data.text, **{split: tuple(files.split(","))})
    return dataclasses.replace(config, data=dataclasses.replace(config.data, task="text", text=text))


def _place_of_decodes(arguments: argparse.Namespace, folders: Sequence[str]) -> Path | None:
    """Where ``--save_decodes`` is to keep them, if it is given."""
    if arguments.save_decodes is None:
        return None
    if len(folders) > 1:
        raise InputError(f"--save_decodes: belongs to one run, but --workdir={arguments.workdir} names an ensemble")
    if arguments.text and not arguments.save_decodes:
        raise InputError(f"--save_decodes: give a name, since --text={arguments.text} is no split: --save_decodes=NAME")
    return decodes.path_of(
        Path(folders[0]), decodes.checked_name(arguments.save_decodes or arguments.split, "--save_decodes")
    )


def _named(decode: DecodeConfig) -> str:
    match decode.method:
        case "beam":
            return f"beam {decode.beam_size}, length penalty {decode.length_penalty} ({decode.beam_variant})"
        case "sample":
            return f"the likeliest of {decode.num_samples} samples" if decode.num_samples > 1 else "one sample"
        case "mbr":
            return f"minimum Bayes risk by {decode.utility} over {decode.num_samples} samples"
        case _:
            return "greedy"
