"""Strict conversion of plain values to the declared types of config keys."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from flaxformer_lite.config.config_keys import field_types, unknown_key
from flaxformer_lite.config.value_types import Bounds, ImportPath, Options, is_import_path
from flaxformer_lite.errors import InputError, require

_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}


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


def _parse_group(group: Any, values: Any, name: str) -> Any:
    if not isinstance(values, Mapping):
        raise InputError(name, f"is a group of keys, got {values!r}")
    hints = field_types(group)
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
