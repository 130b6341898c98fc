"""The flags of commands that choose a model and a search; the rest is as the work folder says."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from flaxformer_lite.config import parsing
from flaxformer_lite.config.dataclasses import Config, DecodeConfig
from flaxformer_lite.errors import InputError

if TYPE_CHECKING:
    from flaxformer_lite.inference.predict import Predictor

# What stands behind each flag in the help. `n_best` is a flag of `decode` alone.
_HELP = {
    "method": "greedy, beam search, sampling, or of the samples the one that agrees best with the others",
    "beam_size": "hypotheses followed at a time",
    "beam_variant": "whose length penalty and end of the search; fairseq's own default adds --min_length=1",
    "length_penalty": "ALPHA: google log P / ((5 + length) / 6)**ALPHA, the others log P / length**ALPHA; 0: log P",
    "early_stopping": "of hf, with its meaning there",
    "num_beam_groups": "groups of beams that keep apart (diverse beam search)",
    "diversity_penalty": "nats off a token for each beam of the groups before that took it",
    "num_samples": "how many to draw for each line; sample writes all of them, or with --n_best the likeliest",
    "temperature": "divides the logits: below 1 sharper, above 1 flatter",
    "top_k": "sample among the N likeliest tokens; 0: all",
    "top_p": "and among the likeliest that have this probability together",
    "min_p": "and among those with this share of the likeliest one's probability",
    "utility": "how mbr measures agreement",
    "repetition_penalty": "factor to the log-probability of what was said before; 1: none",
    "no_repeat_ngram_size": "never the same N tokens in a row twice; 0: allowed",
    "min_length": "tokens before an output may end",
    "suppress_tokens": "tokens, or sequences of tokens separated by blanks, that are never generated",
    "end_tokens": "tokens that end an output as the end token does",
    "renormalize_logits": "what these rules leave to say has probability 1 together again",
    "forced_bos": "what opens every text of a published vocabulary comes first and costs nothing",
    "forced_eos": "so does the end token at the limit",
    "ensemble": "what the mean of several models is taken of",
    "batch_size": "lines decoded together",
    "max_length_ratio": "an output has at most RATIO * (source tokens) + OFFSET tokens: the RATIO",
    "max_length_offset": "and the OFFSET",
}

# Flags that only some methods heed; the first of these is the method that a flag implies.
_METHODS = {
    **dict.fromkeys(("beam_size", "beam_variant", "length_penalty", "early_stopping"), ("beam",)),
    **dict.fromkeys(("num_beam_groups", "diversity_penalty"), ("beam",)),
    **dict.fromkeys(("num_samples", "temperature", "top_k", "top_p", "min_p"), ("sample", "mbr")),
    "utility": ("mbr",),
}


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds ``--workdir`` and ``--step``."""
    parser.add_argument(
        "--workdir", metavar="FOLDER", required=True, help="the work folder of a training run; A,B,C: an ensemble"
    )
    add_step(parser)


def add_step(parser: argparse.ArgumentParser) -> None:
    """Adds ``--step``."""
    parser.add_argument(
        "--step",
        type=_step,
        default="best",
        metavar="best|latest|average|N",
        help="which checkpoint (default: best); average: what flaxformer-lite average made",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--workdir``, ``--step`` and the flags of the search."""
    add_model(parser)
    parser.add_argument("--seed", type=_seed, metavar="N", help="of sampling (default: the run's)")
    search = parser.add_argument_group(
        "search",
        "What is not given is as the run's config says, under decode. Flags of one method imply it: those of beam\n"
        "search, of sampling (--num_samples to --min_p), or --utility.",
    )
    hints = typing.get_type_hints(DecodeConfig)
    for name, text in _HELP.items():
        search.add_argument(f"--{name}", help=text, **_kind(hints[name]))


def _kind(hint: Any) -> dict[str, Any]:
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is typing.Union:  # of names and an import path
        return {"metavar": "|".join([*get_args(get_args(hint)[0]), "module:name"])}
    if get_origin(hint) is tuple:
        return {"type": _split, "metavar": "A,B"}
    if hint is bool:
        return {"type": _truth, "metavar": "true|false"}
    return {"type": hint, "metavar": {int: "N", float: "X"}[hint]}


def folders(workdir: str) -> list[str]:
    """The work folders that ``--workdir`` names: one, or several between commas."""
    if Path(workdir).exists():
        return [workdir]
    return [name for name in workdir.split(",") if name] or [workdir]


def decode_config(config: Config, arguments: argparse.Namespace) -> DecodeConfig:
    """The run's own ``decode`` settings with the flags put over them.

    A flag wins over the folder, and a setting of the folder that no longer fits gives way: flags that only one method
    heeds choose that method, an n-best above 1 makes greedy search a beam search, fewer beams make fewer hypotheses and
    one group where they cannot be divided as before. ``sample`` draws as many as it writes, unless the flags give two
    numbers; and where they give none, one, or what a folder that samples by itself says.

    Raises:
      InputError: flags contradict one another or are out of range.
    """
    flags = vars(arguments)
    keys = parsing.known_keys(DecodeConfig)
    given: dict[str, Any] = {name: flags[name] for name in keys if flags.get(name) is not None}
    given["method"] = _method(config.decode.method, given)
    decode = _samples(dataclasses.replace(config.decode, **given), config.decode.method, given)
    if "n_best" not in given and decode.method != "sample":
        most = {"greedy": 1, "beam": decode.beam_size, "mbr": decode.num_samples}[decode.method]
        decode = dataclasses.replace(decode, n_best=min(decode.n_best, most))
    if "num_beam_groups" not in given and decode.beam_size % decode.num_beam_groups:
        decode = dataclasses.replace(decode, num_beam_groups=1)
    if "early_stopping" not in given and decode.beam_variant != "hf":
        decode = dataclasses.replace(decode, early_stopping="false")
    try:
        return parsing.from_dict(parsing.to_dict(dataclasses.replace(config, decode=decode))).decode
    except InputError as error:
        raise InputError(str(error).replace("config.decode.", "--")) from None


def checked_decode_config(predictor: Predictor, arguments: argparse.Namespace) -> DecodeConfig:
    """The same, for a model whose vocabulary has all tokens that it names.

    Raises:
      InputError: as above, or a token to be forbidden is none.
    """
    from flaxformer_lite.inference.search_from_config import make_search  # here, because jax takes seconds to import

    decode = decode_config(predictor.config, arguments)
    try:
        make_search(decode, predictor.vocabularies[1])
    except InputError as error:
        if arguments.forbidden is None:
            raise
        raise InputError(str(error).replace("config.decode.", "--")) from None
    return decode


def _samples(decode: DecodeConfig, folders_own: str, given: dict[str, Any]) -> DecodeConfig:
    """As many samples are drawn as are written: the likeliest few of many are no samples of the model any more."""
    counts = {given[name] for name in ("num_samples", "n_best") if name in given}
    if decode.method != "sample" or len(counts) == 2 or (not counts and folders_own == "sample"):
        return decode
    count = counts.pop() if counts else 1
    return dataclasses.replace(decode, num_samples=count, n_best=count)


def _method(folders_own: str, given: dict[str, Any]) -> str:
    """The method that the flags name or imply; the folder's own where they leave it open."""
    heeded_by = {name: methods for name, methods in _METHODS.items() if name in given}
    if given.get("n_best", 1) > 1:
        heeded_by["n_best"] = ("beam", "sample", "mbr")
    method = given.get("method", folders_own)
    for name, methods in heeded_by.items():
        if method not in methods:
            if "method" in given:
                raise InputError(f"--{name}={given[name]} is of no use to --method={method}: drop one of the two")
            method = methods[0]
    for name, methods in heeded_by.items():
        if method not in methods:
            raise InputError(f"--{name}={given[name]} is of no use to --method={method}, which other flags ask for")
    return method


def _step(text: str) -> str | int:
    if text in ("best", "latest", "average"):
        return text
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither best, latest, average nor the number of a step")


def _seed(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no seed: a whole number, 0 or above")


def _truth(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _split(text: str) -> Sequence[str]:
    """What stands between commas; a comma itself stands between quotes."""
    return tuple(next(csv.reader([text]), ()))
