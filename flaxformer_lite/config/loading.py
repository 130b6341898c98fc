"""Config files and overrides such as ``--config.optim.learning_rate=3e-4`` → a checked ``Config``."""

from __future__ import annotations

import ast
import dataclasses
import logging
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, get_args, get_origin

from flaxformer_lite.config import config_keys, migrations, parsing, python_files
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.config.value_types import Options
from flaxformer_lite.errors import InputError, require

logger = logging.getLogger(__name__)


def load(file: str, overrides: Sequence[str]) -> Config:
    """Runs a config file, applies the overrides and checks the result.

    Args:
      file: a Python file, the name of a run card, or the config.json of a work directory.
      overrides: such as ``--config.optim.learning_rate=3e-4``; the last one of a key wins, but a key that holds a
        tuple takes all its values.

    Raises:
      InputError: the file or an override cannot be used.
    """
    return resolve(read(file, overrides))


def read(file: str, overrides: Sequence[str]) -> Any:
    """The ConfigDict of ``load``, not yet checked; references between keys are kept for further changes."""
    from ml_collections import ConfigDict  # deferred: --help does not need it

    path = python_files.find(file)
    if path.suffix == ".json":
        config = ConfigDict(_with_tuples(migrations.read_config(path)))
    else:
        get_config = python_files.function(path, "get_config", "configs/tiny.py")
        with python_files.errors_located(path):
            config = get_config()
    wanted = "get_config() must return an ml_collections.ConfigDict"
    require(isinstance(config, ConfigDict), file, f"{wanted}, got {config!r}")
    return _changed(config, overrides, file)


def resolve(config: Any) -> Config:
    """Converts a ConfigDict to a checked config; errors are those of ``parsing.from_dict``."""
    return parsing.from_dict(config.to_dict())


def overridden(config: Any, overrides: Sequence[str], source: str) -> Config:
    """Applies overrides to a ConfigDict and checks the result; ``source`` names its origin in error messages."""
    return resolve(_changed(config, overrides, source))


def smoke(config: Config, steps: int = 10) -> Config:
    """Shortens a run to a few steps with an evaluation and a checkpoint, and logs what is adjusted."""
    train, optim = config.train, config.optim
    half = max(1, steps // 2)
    short = dataclasses.replace(
        config,
        train=dataclasses.replace(train, steps=steps, log_every=1, eval_every=half, save_every=half, patience=0),
        optim=dataclasses.replace(
            optim, warmup_steps=min(optim.warmup_steps, half - 1), decay_steps=min(optim.decay_steps, half)
        ),
        eval=dataclasses.replace(config.eval, max_examples=min(config.eval.max_examples or 16, 16)),
    )
    for line in parsing.difference(parsing.to_dict(config), parsing.to_dict(short)):
        logger.info(f"smoke run: {line}")
    return parsing.from_dict(parsing.to_dict(short))


def _changed(config: Any, overrides: Sequence[str], source: str) -> Any:
    config.unlock()  # a key that the file misspelt is named by from_dict, with the nearest one
    known, present = config_keys.known_keys(), _flat_keys(config)
    texts: dict[str, list[str]] = {}
    for override in overrides:
        key = key_of(override)
        _check_key(key, known, present, source)
        texts.setdefault(key, []).append("false" if override.startswith("--no") else override.partition("=")[2])
    for key, given in texts.items():
        hint = config_keys.key_type(key)
        values = [parse_text(hint, text, f"config.{key}={text}") for text in given]
        _set(config, key, sum(values, ()) if get_origin(hint) is tuple else values[-1])
    return config


def _set(config: Any, key: str, value: Any) -> None:
    *groups, name = key.split(".")
    for group in groups:
        if group not in config:
            config[group] = {}  # within free options
        config = config[group]
    with config.ignore_type():
        config[name] = value


def parse_text(hint: Any, text: str, subject: str) -> Any:
    """Converts the text of an override to the declared type of its key; ``parsing`` checks bounds and choices."""
    if get_origin(hint) is Annotated:
        return parse_text(hint.__origin__, text, subject)
    if get_origin(hint) is tuple:
        return _parse_tuple(get_args(hint)[0], text, subject)
    if hint is bool:
        require(text.lower() in ("true", "false"), subject, "must be true or false")
        return text.lower() == "true"
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            kind = "a whole number, such as 10000" if hint is int else "a number, such as 0.001 or 1e-3"
            raise InputError(subject, f"must be {kind}") from None
    if hint is Any:  # an option, whose class checks its type
        try:
            return {"true": True, "false": False}.get(text) or ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text
    return text


def _parse_tuple(element: Any, text: str, subject: str) -> tuple[Any, ...]:
    """Parses ``a,b``, or a Python tuple such as ``('a,b',)`` where values contain commas."""
    if not re.match(r"[(\[]?\s*['\"]|\(\s*\)$", text):
        return tuple(parse_text(element, part, subject) for part in text.removesuffix(",").split(","))
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise InputError(subject, "must be values between commas, or a Python tuple such as ('a', 'b')") from None
    return tuple(values) if isinstance(values, tuple | list) else (values,)


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def key_of(override: str) -> str:
    """``model.encoder.width`` of ``--config.model.encoder.width=64``."""
    return override.partition("=")[0].partition("config.")[2]


def _check_key(key: str, known: Sequence[str], present: Iterable[str], file: str) -> None:
    if inside := [name for name in known if name.startswith(f"{key}.")]:
        raise InputError(f"config.{key}", "is a group of keys", f"override one of them, such as config.{inside[0]}")
    if config_keys.options_key(key):
        return
    if config_keys.key_type(key) is Options:
        remedy = f"override one of them, as in config.{key}.NAME=VALUE"
        raise InputError(f"config.{key}", "is a group of options", remedy)
    if key not in known:
        raise config_keys.unknown_key(key)
    remedy = "start from flaxformer_lite.config.defaults, which has every key"
    require(key in present, f"config.{key}", f"{file} does not set it", remedy)


def _flat_keys(config: Any) -> list[str]:
    """All dotted keys of a ConfigDict."""
    keys = []
    for key, value in config.items():
        keys += [f"{key}.{name}" for name in _flat_keys(value)] if hasattr(value, "items") else [key]
    return keys
