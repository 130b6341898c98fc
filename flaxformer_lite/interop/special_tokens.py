"""Special token ids of a pretrained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flaxformer_lite.errors import InputError


class SpecialTokenIds(NamedTuple):
    """Special token ids, as named in ``generation_config.json`` and ``config.json``.

    Attributes:
      pad: padding.
      eos: end of every text and every output.
      decoder_start: first input of the decoder.
      bos: beginning of a text where the tokenizer adds one; ``decoder_start`` where the model names none.
      forced_bos: first output token that generation forces; one id or none.
      extra_eos: further ids that end an output, such as the end of a turn.
    """

    pad: int
    eos: int
    decoder_start: int
    bos: int
    forced_bos: tuple[int, ...]
    extra_eos: tuple[int, ...]


def read_special_tokens(config: Mapping[str, Any], generation: Mapping[str, Any]) -> SpecialTokenIds:
    """The special token ids; ``generation_config.json`` takes precedence over ``config.json``.

    Raises:
      InputError: an id is missing, or is not a single id (only ``eos_token_id`` may be a list of several).
    """

    def ids_of(*keys: str) -> tuple[int, ...]:
        for key in keys:
            for values in (generation, config):
                if values.get(key) is not None:
                    return _parse_ids(key, values[key])
        raise InputError("generation_config.json", f"neither it nor config.json has {' or '.join(keys)}", "add it")

    (start,), (eos, *extra_eos) = ids_of("decoder_start_token_id", "bos_token_id"), ids_of("eos_token_id")
    forced = generation.get("forced_bos_token_id", config.get("forced_bos_token_id"))
    bos = generation.get("bos_token_id", config.get("bos_token_id"))
    return SpecialTokenIds(
        pad=ids_of("pad_token_id", "eos_token_id")[0],
        eos=eos,
        decoder_start=start,
        bos=start if bos is None else _parse_ids("bos_token_id", bos)[0],
        forced_bos=() if forced is None else _parse_ids("forced_bos_token_id", forced),
        extra_eos=tuple(extra_eos),
    )


def _parse_ids(key: str, value: Any) -> tuple[int, ...]:
    ids = value if isinstance(value, list) else [value]
    several = key == "eos_token_id"
    valid = all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids)
    if not valid or not ids or (len(ids) > 1 and not several):
        raise InputError(f"{key}={value!r}", f"must be {'one or more ids' if several else 'one id'}, integers from 0")
    return tuple(ids)
