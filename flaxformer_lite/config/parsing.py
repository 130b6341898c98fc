"""From nested plain values to a checked ``Config`` and back: strict, and with errors that name the key."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.config.validation import check, refuse_float16
from flaxformer_lite.errors import InputError

T = TypeVar("T")


def from_dict(values: Mapping[str, Any]) -> Config:
    """Makes a checked ``Config`` of nested plain values.

    Raises:
      InputError: a key is unknown, missing or ill-typed, or values contradict one another; it names the key (and the
        nearest known one).
    """
    refuse_float16(values)
    config = _build(Config, values, path="")
    check(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain values that ``from_dict`` (also after a trip through JSON) makes the same config of."""
    return dataclasses.asdict(config)


def known_keys(kind: Any = Config, prefix: str = "") -> list[str]:
    """All dotted keys, such as ``model.num_layers``."""
    keys = []
    for name, hint in typing.get_type_hints(kind).items():
        keys += known_keys(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else [f"{prefix}{name}"]
    return keys


def short_name(key: str, known: Sequence[str]) -> str:
    """The end of a dotted key that no other known one has: ``learning_rate``, but ``source_vocabulary.kind``."""
    parts = key.split(".")
    ends = (".".join(parts[start:]) for start in range(len(parts) - 1, 0, -1))
    taken = [f".{other}" for other in known if other != key]
    return next((end for end in ends if not any(other.endswith(f".{end}") for other in taken)), key)


def unknown_key(key: str) -> InputError:
    """The error for a dotted key that does not exist, with the nearest one that does."""
    known = known_keys()
    leaf = key.rpartition(".")[2]
    near = difflib.get_close_matches(key, known + _groups(), n=1, cutoff=0.6) or [
        k for k in known if k.rpartition(".")[2] == leaf
    ]
    hint = f"; did you mean config.{near[0]}?" if near else f"; the groups are {', '.join(_groups())}"
    return InputError(f"config.{key}: there is no such key{hint}")


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line ``key: old → new`` for each value in which two nested dictionaries differ."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += difference(before, after, f"{prefix}{key}.")
        elif _plain(before) != _plain(after):
            lines.append(f"{prefix}{key}: {before!r} → {after!r}")
    return lines


def _groups() -> list[str]:
    return [field.name for field in dataclasses.fields(Config)]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _build(kind: type[T], values: Any, path: str) -> T:
    if not isinstance(values, Mapping):
        raise InputError(f"config.{path.rstrip('.')} is a group of keys, got {values!r}")
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise unknown_key(f"{path}{key}")
    for key in hints:
        if key not in values:
            raise InputError(
                f"config.{path}{key} is missing; start from flaxformer_lite/config/defaults.py, which has every key"
            )
    return kind(**{key: _value(hint, values[key], f"{path}{key}") for key, hint in hints.items()})


def _value(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, f"{path}.")
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            near = difflib.get_close_matches(str(value), get_args(hint), n=1)
            raise InputError(
                f"config.{path}={value!r}: must be one of {', '.join(get_args(hint))}"
                + (f"; did you mean {near[0]}?" if near else "")
            )
        return value
    if get_origin(hint) is tuple:
        element = get_args(hint)[0]
        if not isinstance(value, tuple | list):
            raise InputError(f"config.{path}={value!r}: must be a tuple, such as ('a', 'b')")
        return tuple(_value(element, item, f"{path}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"config.{path}={value!r}: must be of type {hint.__name__}, got {type(value).__name__}")
    if hint is float and not math.isfinite(value):
        raise InputError(f"config.{path}={value!r}: must be a finite number")
    return value
