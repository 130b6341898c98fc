"""Components of a mixture (``data.mixture``): tasks that differ from ``config.data`` in some keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from flaxformer_lite.config.dataclasses import DataConfig
from flaxformer_lite.config.parse_value import parse_value
from flaxformer_lite.config.value_types import Options, PositiveFloat
from flaxformer_lite.errors import InputError, require

# Keys of config.data that all components share, because batches and vocabularies are common to them.
_SHARED = (
    *("mixture", "mixture_temperature", "source_vocabulary", "target_vocabulary", "share_vocabulary"),
    *("num_buckets", "pack", "packed_length", "prefetch"),
)


class Component(NamedTuple):
    """One task of a mixture.

    Attributes:
      rate: its relative frequency among training examples.
      data: its own data settings, without a mixture.
    """

    rate: float
    data: DataConfig


def components(data: DataConfig) -> dict[str, Component]:
    """Returns the components of ``data.mixture`` by name; without a mixture ``data`` itself, named "".

    Raises:
      InputError: a component has an unknown key, an ill-typed value, or one of a key that all components share.
    """
    if not data.mixture:
        return {"": Component(1.0, data)}
    whole = dataclasses.asdict(data) | {"mixture": {}}
    return {name: _component(whole, values, f"config.data.mixture.{name}") for name, values in data.mixture.items()}


def _component(whole: Mapping[str, Any], values: Any, key: str) -> Component:
    if not isinstance(values, Mapping):
        raise InputError(f"{key}={values!r}", "must be a group of keys of config.data, with a rate")
    changes = dict(values)
    rate = parse_value(PositiveFloat, changes.pop("rate", 1.0), f"{key}.rate")
    for name in changes:
        require(name not in _SHARED, f"{key}.{name}", f"all components share it: set config.data.{name}")
    try:
        return Component(rate, parse_value(DataConfig, _merged(whole, changes), key))
    except InputError as error:
        raise error.with_subject(error.subject.replace(f"config.{key}", key)) from error


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(change, Mapping) and not isinstance(old, Options):
            merged[key] = _merged(old, change)
        else:
            merged[key] = change
    return merged
