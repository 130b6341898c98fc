"""From ``--config=configs/x.py --config.model.encoder.width=64`` to a checked ``Config``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from flaxformer_lite.config import migrations, parsing, python_files
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.config.key_types import Options
from flaxformer_lite.errors import InputError, require


def load(file: str | None, overrides: Sequence[str]) -> Config:
    """Runs a config file, applies the overrides and checks the result.

    Args:
      file: what ``--config`` said; None: nothing.
      overrides: such as ``--config.model.encoder.width=64``; the last one of a key wins, but a key that holds a tuple
        takes all its values.

    Raises:
      InputError: the file or an override cannot be used.
    """
    return resolve(read(file, overrides))


def read(file: str | None, overrides: Sequence[str]) -> Any:
    """The ConfigDict of a config file with the overrides, not yet checked; arguments and errors are those of ``load``.

    What one key takes from another it still does when that is changed.
    """
    from ml_collections import ConfigDict  # here, because --help does not need it

    if not file:
        raise InputError("--config is missing: name a config file, such as --config=configs/tiny.py")
    config = _get_config(Path(file))
    if not isinstance(config, ConfigDict):
        raise InputError(f"{file}: get_config() must return an ml_collections.ConfigDict, got {config!r}")
    return _changed(config, overrides, file)


def resolve(config: Any) -> Config:
    """The checked config that a ConfigDict stands for.

    Raises:
      InputError: as ``parsing.from_dict`` says.
    """
    return parsing.from_dict(config.to_dict())


def overridden(config: Any, overrides: Sequence[str], source: str) -> Config:
    """Changes some settings and checks them all.

    Args:
      config: a ConfigDict, which is changed.
      overrides: see ``load``.
      source: where it comes from, for messages.

    Raises:
      InputError: a value or an override cannot be used.
    """
    return resolve(_changed(config, overrides, source))


def _changed(config: Any, overrides: Sequence[str], source: str) -> Any:
    config.unlock()  # a key that the file misspelt is named by from_dict, with the nearest one
    known, present = parsing.known_keys(), _flat_keys(config)
    texts: dict[str, list[str]] = {}
    for override in overrides:
        key = key_of(override)
        _check_key(key, known, present, source)
        texts.setdefault(key, []).append("false" if override.startswith("--no") else override.partition("=")[2])
    for key, given in texts.items():
        hint = parsing.key_type(key)
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


def _get_config(path: Path) -> Any:
    """What the file's ``get_config()`` returns, or the config.json of a work folder holds."""
    if path.suffix == ".json":
        from ml_collections import ConfigDict

        return ConfigDict(_with_tuples(migrations.read_config(path)))
    get_config = python_files.function(path, "--config", "get_config", "configs/tiny.py")
    with python_files.faults_named(path):
        return get_config()


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def key_of(override: str) -> str:
    """``model.encoder.width`` of ``--config.model.encoder.width=64``."""
    return override.partition("=")[0].partition("config.")[2]


def _check_key(key: str, known: Sequence[str], present: Iterable[str], file: str) -> None:
    inside = [name for name in known if name.startswith(f"{key}.")]
    require(
        not inside,
        f"config.{key}",
        "is a group of keys",
        f"override one of them, such as config.{inside[0] if inside else ''}",
    )
    if parsing.options_key(key):
        return
    if parsing.key_type(key) is Options:
        raise InputError(
            f"config.{key}", "is a group of options", f"override one of them, as in config.{key}.NAME=VALUE"
        )
    if key not in known:
        raise parsing.unknown_key(key)
    remedy = "start from flaxformer_lite.config.defaults, which has every key"
    require(key in present, f"config.{key}", f"{file} does not set it", remedy)


def _flat_keys(config: Any) -> list[str]:
    """All dotted keys of a ConfigDict."""
    keys = []
    for key, value in config.items():
        keys += [f"{key}.{name}" for name in _flat_keys(value)] if hasattr(value, "items") else [key]
    return keys
