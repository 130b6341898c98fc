"""Strict conversion between nested plain values and a checked ``Config``; errors name the key and the nearest one."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.config.validation import check, refuse_float16
from flaxformer_lite.config.value_types import Bounds, ImportPath, Options, is_import_path
from flaxformer_lite.errors import InputError, require

_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}


def from_dict(values: Mapping[str, Any]) -> Config:
    """Converts nested plain values to a checked ``Config``.

    Raises:
      InputError: a key is unknown, missing or ill-typed, or values contradict one another; it names the key (and the
        nearest known one).
    """
    refuse_float16(values)
    config = _parse_group(Config, values, "config")
    check(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Converts a config to nested plain values, which ``from_dict`` inverts (also after a conversion to JSON)."""
    return dataclasses.asdict(config)


def key_type(key: str) -> Any:
    """The declared type of a dotted key, such as ``int`` of ``seed``; of an option or an unknown key ``Any``."""
    hint: Any = Config
    for name in key.split("."):
        hint = _hints(hint).get(name, Any) if dataclasses.is_dataclass(hint) else Any
    return hint


def known_keys(group: Any = Config, prefix: str = "") -> list[str]:
    """All dotted keys, such as ``optim.learning_rate``; a mapping of free options is one key."""
    keys = []
    for name, hint in _hints(group).items():
        keys += known_keys(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else [f"{prefix}{name}"]
    return keys


def options_key(key: str) -> str | None:
    """The mapping of free options that holds a dotted key, such as ``data.options`` of ``data.options.path``."""
    parts = key.split(".")
    groups = (".".join(parts[:count]) for count in range(1, len(parts)))
    return next((group for group in groups if key_type(group) is Options), None)


def short_name(key: str, known: Sequence[str]) -> str:
    """The shortest unique suffix of a dotted key: ``learning_rate``, but ``source_vocabulary.kind``."""
    parts = key.split(".")
    suffixes = (".".join(parts[start:]) for start in range(len(parts) - 1, 0, -1))
    taken = [f".{other}" for other in known if other != key]
    return next((suffix for suffix in suffixes if not any(other.endswith(f".{suffix}") for other in taken)), key)


def unknown_key(key: str) -> InputError:
    """The error for a dotted key that does not exist, with the nearest one that does."""
    known, groups = known_keys(), [field.name for field in dataclasses.fields(Config)]

    def similarity(other: str) -> float:  # the last part counts most: a key may be in another group
        pairs = (key.rpartition(".")[2], other.rpartition(".")[2]), (key, other)
        return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs) / 2

    nearest = max(known + groups, key=similarity)
    near = similarity(nearest) >= 0.6
    hint = f"did you mean config.{nearest}?" if near else f"the groups are {', '.join(groups)}"
    return InputError(f"config.{key}", "there is no such key", hint)


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line ``key: old → new`` for each value in which two nested dictionaries differ."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += difference(before, after, f"{prefix}{key}.")
        elif _with_tuples(before) != _with_tuples(after):
            lines.append(f"{prefix}{key}: {before!r} → {after!r}")
    return lines


def parse_value(hint: Any, value: Any, name: str) -> Any:
    """Converts a plain value to its declared type.

    Args:
      hint: a scalar type, ``Literal``, ``tuple[T, ...]``, a dataclass, ``Options``, a union of these, or one of them
        ``Annotated`` with ``Bounds``; ``Any``: the value is taken as it is.
      value: what a config, a JSON file or an override contains.
      name: of the value, for error messages: ``config.optim.learning_rate``.

    Raises:
      InputError: the value is not of that type or violates its bounds.
    """
    if hint is Any:
        return value
    if hint is Options:
        return _parse_options(value, name)
    if dataclasses.is_dataclass(hint):
        return _parse_group(hint, value, name)
    if hint == ImportPath or get_origin(hint) in (Literal, typing.Union, types.UnionType):
        return _parse_choice(get_args(hint) if hint != ImportPath else (hint,), hint, value, name)
    if get_origin(hint) is Annotated:
        return _parse_bounded(hint, value, name)
    if get_origin(hint) is tuple:
        element = get_args(hint)[0]
        require(isinstance(value, tuple | list), f"{name}={value!r}", "must be a tuple, such as ('a', 'b')")
        return tuple(parse_value(element, item, f"{name}[{i}]") for i, item in enumerate(value))
    return _parse_scalar(hint, value, name)


@functools.cache
def _hints(group: Any) -> dict[str, Any]:
    return typing.get_type_hints(group, include_extras=True)


def _parse_group(group: Any, values: Any, name: str) -> Any:
    if not isinstance(values, Mapping):
        raise InputError(name, f"is a group of keys, got {values!r}")
    hints = _hints(group)
    for key in values:
        if key not in hints:
            raise unknown_key(f"{name}.{key}".removeprefix("config."))
    for key in hints:
        remedy = "start from flaxformer_lite/config/defaults.py, which has every key"
        require(key in values, f"{name}.{key}", "is missing", remedy)
    return group(**{key: parse_value(hint, values[key], f"{name}.{key}") for key, hint in hints.items()})


def _parse_choice(members: Sequence[Any], hint: Any, value: Any, name: str) -> Any:
    """Parses a ``Literal``, a union, or an import path: names are compared first, then the other members are tried."""
    literals = (
        members
        if get_origin(hint) is Literal
        else [n for m in members for n in get_args(m) if get_origin(m) is Literal]
    )
    if value in literals or (value is None and type(None) in members):
        return value
    accepts_path = ImportPath in members
    if accepts_path and isinstance(value, str) and is_import_path(value):
        return value
    others = [m for m in members if m not in (ImportPath, type(None)) and get_origin(m) is not Literal]
    if others and get_origin(hint) is not Literal:
        return parse_value(others[0], value, name)
    choices = ", ".join([*map(str, literals), *(["an import path module:name"] if accepts_path else [])])
    near = difflib.get_close_matches(str(value), [str(choice) for choice in literals], n=1)
    reason = f"must be one of {choices}" if literals else f"must be {choices}"
    raise InputError(f"{name}={value!r}", reason, f"did you mean {near[0]}?" if near else "")


def _parse_bounded(hint: Any, value: Any, name: str) -> Any:
    number = parse_value(hint.__origin__, value, name)
    for bounds in reversed(hint.__metadata__):  # the narrowest ones, which are added last, first
        if isinstance(bounds, Bounds) and (violation := bounds.violation(number)):
            raise InputError(f"{name}={number}", violation)
    return number


def _parse_scalar(hint: Any, value: Any, name: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"{name}={value!r}", f"must be {_TYPE_NAMES.get(hint, hint)}")
    require(hint is not float or math.isfinite(value), f"{name}={value!r}", "must be a finite number")
    if isinstance(value, str):
        _check_text(value, name)
    return value


def _check_text(value: str, name: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name}={value!a}", "must be valid Unicode", "use UTF-8, in file names too") from None


def _parse_options(value: Any, name: str) -> Options:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{name}={value!r}", "must be a mapping of names to values, such as {'path': 'a.json'}")
    return Options({key: _plain_value(item, f"{name}.{key}") for key, item in value.items()})


def _plain_value(value: Any, name: str) -> Any:
    """A value that JSON can hold; sequences become tuples."""
    if isinstance(value, Mapping):
        return _parse_options(value, name)
    if isinstance(value, tuple | list):
        return tuple(_plain_value(item, f"{name}[{i}]") for i, item in enumerate(value))
    if isinstance(value, str):
        _check_text(value, name)
        return value
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise InputError(f"{name}={value!r}", "must be a string, a finite number, True, False, None, a tuple or a mapping")


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value
