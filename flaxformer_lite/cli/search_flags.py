"""The flags of ``decode`` and ``evaluate`` that choose a model and a search; the rest is as the work folder says."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from flaxformer_lite import schema
from flaxformer_lite.config import Config, DecodeConfig
from flaxformer_lite.errors import InputError

_BEAM_ONLY = ("beam_size", "length_penalty")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--workdir``, ``--step`` and the flags of the search."""
    parser.add_argument("--workdir", metavar="FOLDER", required=True, help="the work folder of a training run")
    parser.add_argument(
        "--step",
        type=_step,
        default="best",
        metavar="best|latest|average|N",
        help="which checkpoint (default: best); average: what flaxformer-lite average made",
    )
    search = parser.add_argument_group("search", "what is not given is as the run's config says, under decode")
    search.add_argument("--method", choices=["greedy", "beam"], help="beam is implied by the flags that it alone has")
    search.add_argument("--beam_size", type=int, metavar="N", help="hypotheses followed at a time")
    search.add_argument(
        "--length_penalty",
        type=float,
        metavar="ALPHA",
        help="scores are log P / ((5 + length) / 6)**ALPHA (Wu et al. 2016); 0: the log-probability itself",
    )
    search.add_argument("--batch_size", type=int, metavar="N", help="lines decoded together")


def decode_config(config: Config, arguments: argparse.Namespace) -> DecodeConfig:
    """The run's own ``decode`` settings with the flags put over them.

    A flag wins over the folder, and a setting of the folder that no longer fits gives way: a beam size, a length
    penalty or an n-best above 1 makes the search a beam search, and fewer beams make fewer hypotheses.

    Raises:
      InputError: flags contradict one another or are out of range.
    """
    flags, settings = vars(arguments), schema.known_keys(DecodeConfig)
    given: dict[str, Any] = {name: flags[name] for name in settings if flags.get(name) is not None}
    only_beam = [name for name in _BEAM_ONLY if name in given] + ["n_best"] * (given.get("n_best", 1) > 1)
    if given.get("method") == "greedy" and only_beam:
        name = only_beam[0]
        raise InputError(f"--{name}={given[name]} belongs to beam search: drop it, or --method=greedy")
    if only_beam:
        given["method"] = "beam"
    decode = dataclasses.replace(config.decode, **given)
    if "n_best" not in given:
        most = decode.beam_size if decode.method == "beam" else 1
        decode = dataclasses.replace(decode, n_best=min(decode.n_best, most))
    try:
        return schema.from_dict(schema.to_dict(dataclasses.replace(config, decode=decode))).decode
    except InputError as error:
        raise InputError(str(error).replace("config.decode.", "--")) from None


def _step(text: str) -> str | int:
    if text in ("best", "latest", "average"):
        return text
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither best, latest, average nor the number of a step")
