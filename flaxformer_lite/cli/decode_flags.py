"""Flags that choose a trained model and a search. Those of the search are the keys of ``config.decode``."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import typing
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from flaxformer_lite.config import loading, parsing
from flaxformer_lite.config.dataclasses import Config, DecodeConfig
from flaxformer_lite.config.key_help import key_comments
from flaxformer_lite.config.parse_value import parse_value
from flaxformer_lite.config.value_types import ImportPath, Options
from flaxformer_lite.errors import InputError

if TYPE_CHECKING:
    from flaxformer_lite.inference.loaded_model import LoadedModel

# Methods that use a key; the first one is the method that the flag implies.
_METHODS = {
    **dict.fromkeys(("beam_size", "beam_variant", "length_penalty", "early_stopping"), ("beam",)),
    **dict.fromkeys(("num_beam_groups", "diversity_penalty"), ("beam",)),
    **dict.fromkeys(("num_samples", "temperature", "top_k", "top_p", "min_p"), ("sample", "mbr")),
    "utility": ("mbr",),
}
_METAVARS = {int: "N", float: "X", bool: "true|false", Options: "JSON"}


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds ``--workdir`` and ``--step``."""
    parser.add_argument(
        "--workdir", metavar="DIR", required=True, help="work directory of a training run; A,B,C: an ensemble"
    )
    add_step(parser)


def add_step(parser: argparse.ArgumentParser) -> None:
    """Adds ``--step``."""
    parser.add_argument(
        "--step",
        type=_step,
        default="best",
        metavar="best|latest|average|N",
        help="which checkpoint (default: best); average: the result of flaxformer-lite average",
    )


def add_arguments(parser: argparse.ArgumentParser, n_best: bool = False) -> None:
    """Adds ``--workdir``, ``--step``, ``--seed`` and the flags of the search, ``--n_best`` only if asked for."""
    add_model(parser)
    parser.add_argument("--seed", type=_seed, metavar="N", help="seed of sampling (default: the run's)")
    search = parser.add_argument_group(
        "search",
        "The defaults are those of the run's config.decode. Flags that only one method uses imply it: those of beam\n"
        "search, those of sampling (--num_samples to --min_p), and --utility of mbr.",
    )
    comments = key_comments("decode")
    for name, hint in typing.get_type_hints(DecodeConfig, include_extras=True).items():
        if name != "n_best" or n_best:
            text = comments[name].replace("%", "%%")
            search.add_argument(f"--{name}", help=text, metavar=_metavar(hint), type=partial(_parse, name, hint))


def _metavar(hint: Any) -> str:
    if get_origin(hint) is Annotated and hint != ImportPath:
        return _metavar(hint.__origin__)
    if get_origin(hint) is Literal:
        return "|".join(get_args(hint))
    if get_origin(hint) is tuple:
        return "A,B"
    if get_origin(hint) is typing.Union:
        return "|".join(map(_metavar, get_args(hint)))
    return "module:name" if hint == ImportPath else _METAVARS[hint]


def _parse(name: str, hint: Any, text: str) -> Any:
    """Converts the text of a flag to the type of its key, within its bounds."""
    subject = f"--{name}={text}"
    if get_origin(hint) is tuple:  # a comma within a value is quoted
        return parse_value(hint, tuple(next(csv.reader([text]), ())), f"--{name}")
    if hint is Options:
        try:
            return parse_value(hint, json.loads(text), f"--{name}")
        except json.JSONDecodeError as error:
            raise InputError(subject, f"must be a JSON object ({error})") from None
    return parse_value(hint, loading.parse_text(hint, text, subject), f"--{name}")


def directories(workdir: str) -> list[str]:
    """The work directories of ``--workdir``: one, or several between commas."""
    if Path(workdir).exists():
        return [workdir]
    return [name for name in workdir.split(",") if name] or [workdir]


def load_model(arguments: argparse.Namespace) -> LoadedModel:
    """The model of ``--workdir`` and ``--step``, with the ``--seed`` of sampling.

    Raises:
      InputError: it cannot be loaded.
    """
    import flaxformer_lite  # here, because the model's libraries take seconds to import

    paths = directories(arguments.workdir)
    try:
        model = flaxformer_lite.load(paths, step=arguments.step)
    except InputError as error:
        raise (error.with_subject(f"--workdir={error.subject}") if error.subject in paths else error) from error
    if getattr(arguments, "seed", None) is not None:
        model.seed = arguments.seed
    return model


def decode_config(config: Config, arguments: argparse.Namespace) -> DecodeConfig:
    """``config.decode`` of a run with the values of the flags.

    A flag overrides the run's value. Values of the run that contradict flags are adjusted: flags that only one method
    uses choose that method, ``n_best`` above 1 makes greedy search a beam search, fewer beams lower ``n_best`` and
    reset the number of groups where it no longer divides them. For ``sample``, ``num_samples`` and ``n_best`` are the
    same unless the flags give both; without either flag it is one sample, or the number of a run that samples by
    default.

    Raises:
      InputError: flags contradict one another.
    """
    given = _given(arguments)
    given["method"] = _method(config.decode.method, given)
    decode = _with_num_samples(dataclasses.replace(config.decode, **given), config.decode.method, given)
    if "n_best" not in given and decode.method in ("greedy", "beam", "mbr"):
        most = {"greedy": 1, "beam": decode.beam_size, "mbr": decode.num_samples}[decode.method]
        decode = dataclasses.replace(decode, n_best=min(decode.n_best, most))
    if "num_beam_groups" not in given and decode.beam_size % decode.num_beam_groups:
        decode = dataclasses.replace(decode, num_beam_groups=1)
    if "early_stopping" not in given and decode.beam_variant != "hf":
        decode = dataclasses.replace(decode, early_stopping="false")
    try:
        return parsing.from_dict(parsing.to_dict(dataclasses.replace(config, decode=decode))).decode
    except InputError as error:
        raise _about_flag(error, given) from error


def checked_decode_config(model: LoadedModel, arguments: argparse.Namespace) -> DecodeConfig:
    """The same, after building the search for the model's vocabulary.

    Raises:
      InputError: as above; a token is not in the vocabulary, or an import path cannot be used.
    """
    from flaxformer_lite.inference.search_from_config import make_search  # here, because jax takes seconds to import

    decode = decode_config(model.config, arguments)
    try:
        make_search(decode, model.vocabularies[1])
    except InputError as error:
        raise _about_flag(error, _given(arguments)) from error
    return decode


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    values = {field.name: getattr(arguments, field.name, None) for field in dataclasses.fields(DecodeConfig)}
    return {name: value for name, value in values.items() if value is not None}


def _about_flag(error: InputError, given: Mapping[str, Any]) -> InputError:
    """The same error about the flag, where the key that it names was given as a flag."""
    key, _, rest = error.subject.partition("config.decode.")[2].partition("=")
    name = key.partition(".")[0]
    return error.with_subject(f"--{key}={rest}" if rest else f"--{key}") if name in given else error


def _with_num_samples(decode: DecodeConfig, own_method: str, given: Mapping[str, Any]) -> DecodeConfig:
    """See ``decode_config``."""
    numbers = [given[name] for name in ("num_samples", "n_best") if name in given]
    if decode.method != "sample" or len(numbers) == 2 or (not numbers and own_method == "sample"):
        return decode
    count = numbers[0] if numbers else 1
    return dataclasses.replace(decode, num_samples=count, n_best=count)


def _method(own: str, given: Mapping[str, Any]) -> str:
    """The method that the flags name or imply; by default the run's own."""
    used_by = {name: methods for name, methods in _METHODS.items() if name in given}
    if given.get("n_best", 1) > 1:
        used_by["n_best"] = ("beam", "sample", "mbr")
    method = given.get("method", own)
    if ":" in method:
        return method  # of an import path, nothing is known here
    for name, methods in used_by.items():
        if method not in methods:
            if "method" in given:
                raise InputError(f"--{name}={given[name]}", f"has no effect with --method={method}", "drop one of them")
            method = methods[0]
    for name, methods in used_by.items():
        if method not in methods:
            raise InputError(
                f"--{name}={given[name]}", f"has no effect with --method={method}, which other flags imply"
            )
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
    raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 0 or above")
