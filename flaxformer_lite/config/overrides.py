"""From ``--config=configs/x.py --config.model.width=64`` to a checked ``Config``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flaxformer_lite.config import parsing, python_files
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError


def load(file: str | None, overrides: Sequence[str]) -> Config:
    """Runs a config file, applies the overrides and checks the result.

    Args:
      file: what ``--config`` said; None: nothing.
      overrides: such as ``--config.model.width=64``; the last one of a key wins, but a key that holds a tuple takes
        all its values.

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
    from absl import flags  # here, because --help needs neither
    from ml_collections import config_flags

    config.unlock()  # a key that the file misspelt is named by from_dict, with the nearest one
    known, present = parsing.known_keys(), _flat_keys(config)
    for override in overrides:
        _check_key(override, known, present, source)
    argv = ["", *_split_tuples(overrides, config)]
    parsed = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=parsed, lock_config=False, sys_argv=argv)
        parsed(argv)
    except (flags.Error, ValueError, TypeError) as error:
        raise InputError(str(error).removeprefix("flag ")) from error
    return config


def _get_config(path: Path) -> Any:
    """What the file's ``get_config()`` returns, or the config.json of a work folder holds."""
    if path.suffix == ".json":
        return _saved_config(path)
    get_config = python_files.function(path, "--config", "get_config", "configs/tiny.py")
    with python_files.faults_named(path):
        return get_config()


def _saved_config(path: Path) -> Any:
    """The config that a work folder holds."""
    from ml_collections import ConfigDict

    python_files.check_exists(path, "--config")
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--config={path}: cannot be read as a work folder's config.json ({error})") from error
    if not isinstance(values, dict):
        raise InputError(f"--config={path}: must be a work folder's config.json, which holds an object")
    if "model_type" in values:
        raise InputError(
            f"--config={path} is of a published model; make a work folder of it with flaxformer-lite import, and name "
            "the config.json there"
        )
    return ConfigDict(_with_tuples(values))


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def key_of(override: str) -> str:
    """``model.width`` of ``--config.model.width=64``."""
    return override.partition("=")[0].partition("config.")[2]


def _check_key(override: str, known: Iterable[str], present: Iterable[str], file: str) -> None:
    key = key_of(override)
    inside = [name for name in known if name.startswith(f"{key}.")]
    if inside:
        raise InputError(
            f"{override}: config.{key} is a group of settings; change one of them, such as config.{inside[0]}"
        )
    if key not in known:
        raise parsing.unknown_key(key)
    if key not in present:
        raise InputError(
            f"{override}: {file} does not set config.{key}; start from flaxformer_lite.config.defaults, with every key"
        )


def _flat_keys(config: Any) -> list[str]:
    """All dotted keys of a ConfigDict."""
    keys = []
    for key, value in config.items():
        keys += [f"{key}.{name}" for name in _flat_keys(value)] if hasattr(value, "items") else [key]
    return keys


def _split_tuples(overrides: Sequence[str], config: Any) -> list[str]:
    """Writes ``--config.k=a,b`` of a tuple as ``--config.k=a --config.k=b``, which absl understands."""
    words = []
    for override in overrides:
        flag, _, text = override.partition("=")
        value = config
        for name in key_of(override).split("."):
            value = value[name]
        plain = isinstance(value, tuple) and not text.startswith(("(", "[", "'", '"'))
        words += [f"{flag}={part}" for part in text.removesuffix(",").split(",")] if plain else [override]
    return words
