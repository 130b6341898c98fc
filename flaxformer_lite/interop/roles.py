"""Which ids a published model gives a meaning of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flaxformer_lite.errors import InputError


class Roles(NamedTuple):
    """Ids as ``generation_config.json`` and ``config.json`` say.

    Attributes:
      pad: fills up rows.
      end: ends what is said.
      start: what the decoder reads first.
      begin: of a text where the tokenizer begins it with one; that of ``start`` where the model names none.
      forced: what must be said first of all; none or one.
    """

    pad: int
    end: int
    start: int
    begin: int
    forced: tuple[int, ...]


def read_roles(config: Mapping[str, Any], generation: Mapping[str, Any]) -> Roles:
    """The ids; what ``generation_config.json`` says goes before ``config.json``.

    Raises:
      InputError: one of them is missing, or is not a single id.
    """

    def of(*keys: str) -> int:
        for key in keys:
            for values in (generation, config):
                if values.get(key) is not None:
                    return _single(key, values[key])
        raise InputError(f"neither generation_config.json nor config.json has {' or '.join(keys)}: add it")

    start = of("decoder_start_token_id", "bos_token_id")
    forced = generation.get("forced_bos_token_id", config.get("forced_bos_token_id"))
    begin = generation.get("bos_token_id", config.get("bos_token_id"))
    return Roles(
        pad=of("pad_token_id", "eos_token_id"),
        end=of("eos_token_id"),
        start=start,
        begin=start if begin is None else _single("bos_token_id", begin),
        forced=() if forced is None else (_single("forced_bos_token_id", forced),),
    )


def _single(key: str, value: Any) -> int:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(f"{key}={value!r}: one id is needed; keep the one that shall count in generation_config.json")
    return value
