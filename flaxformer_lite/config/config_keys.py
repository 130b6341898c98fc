"""Dotted keys of the config: their types, and the nearest one to a key that does not exist."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import typing
from collections.abc import Sequence
from typing import Any

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.config.value_types import Options
from flaxformer_lite.errors import InputError


def key_type(key: str) -> Any:
    """The declared type of a dotted key, such as ``int`` of ``seed``; of an option or an unknown key ``Any``."""
    hint: Any = Config
    for name in key.split("."):
        hint = field_types(hint).get(name, Any) if dataclasses.is_dataclass(hint) else Any
    return hint


def known_keys(group: Any = Config, prefix: str = "") -> list[str]:
    """All dotted keys, such as ``optim.learning_rate``; a mapping of free options is one key."""
    keys = []
    for name, hint in field_types(group).items():
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


@functools.cache
def field_types(group: Any) -> dict[str, Any]:
    """Returns the declared type of each field of a group of keys."""
    return typing.get_type_hints(group, include_extras=True)
