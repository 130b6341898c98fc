"""Strict conversion between nested plain values and a checked ``Config``; errors name the key and the nearest one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.config.parse_value import parse_value
from flaxformer_lite.config.validation import check, refuse_float16


def from_dict(values: Mapping[str, Any]) -> Config:
    """Converts nested plain values to a checked ``Config``.

    Raises:
      InputError: a key is unknown, missing or ill-typed, or values contradict one another; it names the key (and the
        nearest known one).
    """
    refuse_float16(values)
    config = parse_value(Config, values, "config")
    check(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Converts a config to nested plain values, which ``from_dict`` inverts (also after a conversion to JSON)."""
    return dataclasses.asdict(config)


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


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value
