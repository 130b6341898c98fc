"""Evaluate a trained model on a split of its data: loss, token accuracy, and the metrics of its config by decoding.

Examples:
  flaxformer-lite evaluate --workdir=runs/g2p --split=test
  flaxformer-lite evaluate --workdir=runs/g2p --split=test --beam_size=5 --length_penalty=0.6 --json
  flaxformer-lite evaluate --workdir=runs/g2p --split=test --beam_size=1 --save_decodes=greedy
  flaxformer-lite evaluate --workdir=runs/en-de --text=test.en,test.de
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from flaxformer_lite.cli import decode_flags, multihost_flags
from flaxformer_lite.compare.decode_records import DecodeRecords, check_name, decodes_path, save_decodes
from flaxformer_lite.config.dataclasses import DecodeConfig
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.system.json_text import to_json

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    decode_flags.add_arguments(parser)
    parser.add_argument(
        "--split", choices=["validation", "test", "train"], default="validation", help="(default: validation)"
    )
    parser.add_argument(
        "--text",
        metavar="FILES",
        default="",
        help="evaluate on SOURCE,TARGET or a table such as FILE.tsv, read as config.data.text says, instead of the "
        "split of the run's config, which an imported model does not have",
    )
    parser.add_argument(
        "--max_examples", type=int, default=0, metavar="N", help="N examples, spread over the split (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of a table")
    parser.add_argument(
        "--save_decodes",
        nargs="?",
        const="",
        metavar="NAME",
        help="save sources, references and hypotheses as decodes/NAME.jsonl in the work directory, for\n"
        "compare --significance=NAME (default: the split's name)",
    )
    multihost_flags.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    require(arguments.max_examples >= 0, f"--max_examples={arguments.max_examples}", "must be at least 0 (all)")
    decodes_file = _decodes_file(arguments, decode_flags.directories(arguments.workdir))
    multihost_flags.join(arguments)
    from flaxformer_lite.inference.evaluate import evaluate_split  # here, because jax takes seconds to import

    model = decode_flags.load_model(arguments)
    decode = decode_flags.checked_decode_config(model, arguments)
    files = arguments.text.split(",") if arguments.text else ()
    found = evaluate_split(model, arguments.split, decode, arguments.max_examples, files)
    step = "average" if arguments.step == "average" else model.step
    settings = {
        "workdir": arguments.workdir,
        "step": step,
        "split": arguments.split,
        "max_examples": arguments.max_examples,
        "seed": model.seed,
        "decode": dataclasses.asdict(decode),
        "metrics": found.metrics,
    } | ({"text": arguments.text} if arguments.text else {})
    if decodes_file:
        records = DecodeRecords(settings, found.examples.sources, found.examples.references, found.hypotheses)
        save_decodes(records, decodes_file)
        logger.info(f"saved the decodes in {decodes_file}")
    if arguments.json:
        print(to_json(settings, indent=2))
    else:
        print(f"{arguments.text or arguments.split}, step {step}, {_description(decode)}\n")
        width = max(map(len, found.metrics), default=0)
        for name, value in found.metrics.items():
            print(f"{name:<{width}}  {value:10.4f}")
    return 0


def _decodes_file(arguments: argparse.Namespace, paths: Sequence[str]) -> Path | None:
    """The file of ``--save_decodes``, if it is given."""
    if arguments.save_decodes is None:
        return None
    if len(paths) > 1:
        raise InputError("--save_decodes", f"belongs to one run, but --workdir={arguments.workdir} names an ensemble")
    if arguments.text and not arguments.save_decodes:
        reason = f"is missing a name, since --text={arguments.text} is not a split"
        raise InputError("--save_decodes", reason, "use --save_decodes=NAME")
    name = arguments.save_decodes or arguments.split
    try:
        return decodes_path(Path(paths[0]), check_name(name))
    except InputError as error:
        raise error.with_subject(f"--save_decodes={name}") from error


def _description(decode: DecodeConfig) -> str:
    match decode.method:
        case "beam":
            return f"beam {decode.beam_size}, length penalty {decode.length_penalty} ({decode.beam_variant})"
        case "sample":
            return f"most likely of {decode.num_samples} samples" if decode.num_samples > 1 else "one sample"
        case "mbr":
            return f"minimum Bayes risk by {decode.utility} over {decode.num_samples} samples"
        case method:
            return method
