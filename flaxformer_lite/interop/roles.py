"""Which ids a published model gives a meaning of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flaxformer_lite.errors import InputError


class Roles(NamedTuple):
    """Ids as ``generation_config.json`` and ``config.json`` say.

    Attributes:
      pad: fills up rows.
      end: ends what is said, and every text.
      start: what the decoder reads first.
      begin: of a text where the tokenizer begins it with one; that of ``start`` where the model names none.
      forced: what must be said first of all; none or one.
      ends: what else ends what is said, such as the end of a turn.
    """

    pad: int
    end: int
    start: int
    begin: int
    forced: tuple[int, ...]
    ends: tuple[int, ...]


def read_roles(config: Mapping[str, Any], generation: Mapping[str, Any]) -> Roles:
    """The ids; what ``generation_config.json`` says goes before ``config.json``.

    Raises:
      InputError: one of them is missing, or is not a single id where only the end may be several.
    """

    def of(*keys: str) -> tuple[int, ...]:
        for key in keys:
            for values in (generation, config):
                if values.get(key) is not None:
                    return _ids(key, values[key])
        raise InputError(f"neither generation_config.json nor config.json has {' or '.join(keys)}: add it")

    (start,), (end, *ends) = of("decoder_start_token_id", "bos_token_id"), of("eos_token_id")
    forced = generation.get("forced_bos_token_id", config.get("forced_bos_token_id"))
    begin = generation.get("bos_token_id", config.get("bos_token_id"))
    return Roles(
        pad=of("pad_token_id", "eos_token_id")[0],
        end=end,
        start=start,
        begin=start if begin is None else _ids("bos_token_id", begin)[0],
        forced=() if forced is None else _ids("forced_bos_token_id", forced),
        ends=tuple(ends),
    )


def _ids(key: str, value: Any) -> tuple[int, ...]:
    """One id, or where there may be several at least one."""
    ids = value if isinstance(value, list) else [value]
    several = key == "eos_token_id"
    sound = all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids)
    if not sound or not ids or (len(ids) > 1 and not several):
        raise InputError(f"{key}={value!r}: {'ids are' if several else 'one id is'} needed, whole numbers from 0")
    return tuple(ids)
