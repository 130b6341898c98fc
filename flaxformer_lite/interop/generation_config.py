"""Conversion between ``generation_config.json`` and ``config.decode``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import InputError
from flaxformer_lite.inference.search_from_config import suppressed_ids
from flaxformer_lite.interop.special_tokens import SpecialTokenIds

_FILE = "generation_config.json"
# Unsupported keys and the values (besides None) at which they have no effect.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **{"typical_p": (1, 1.0), "encoder_no_repeat_ngram_size": (0,), "encoder_repetition_penalty": (1, 1.0)},
    **{"epsilon_cutoff": (0, 0.0), "eta_cutoff": (0, 0.0), "guidance_scale": (1, 1.0), "penalty_alpha": (0, 0.0)},
    **{"top_h": (), "stop_strings": (), "force_words_ids": (), "constraints": (), "sequence_bias": ()},
    **{"exponential_decay_length_penalty": (), "begin_suppress_tokens": ([],), "watermarking_config": ()},
    **{"dola_layers": (), "max_time": (), "token_healing": (False,)},
}
_SUPPORTED = (
    *("max_length", "max_new_tokens", "min_length", "min_new_tokens", "num_beams", "num_beam_groups", "early_stopping"),
    *("length_penalty", "diversity_penalty", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids"),
    *("suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "renormalize_logits", "do_sample"),
    *("temperature", "top_k", "top_p", "min_p", "num_return_sequences", "decoder_start_token_id", "eos_token_id"),
    *("pad_token_id", "bos_token_id"),
)
_IRRELEVANT = (
    *("_from_model_config", "transformers_version", "use_cache", "cache_implementation", "cache_config"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
    *("return_legacy_cache", "remove_invalid_values", "max_cache_len", "is_assistant", "num_assistant_tokens"),
    *("num_assistant_tokens_schedule", "assistant_confidence_threshold", "prompt_lookup_num_tokens", "use_mtp"),
    *("max_matching_ngram_size", "assistant_early_exit", "assistant_lookbehind", "target_lookbehind", "low_memory"),
    *("assistant_ensemble_weight", "speculation_type", "compile_config", "disable_compile", "prefill_chunk_size"),
    *("continuous_batching_config", "sep_token_id", "langs", "language", "lang_to_id", "task_specific_params"),
)
GENERATION_KEYS = frozenset(_SUPPORTED + tuple(_NEUTRAL))  # older models have them in config.json
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("max_length", "max_new_tokens", "min_length", "min_new_tokens", "num_beams", "top_k"), (int,)),
    **dict.fromkeys(("num_beam_groups", "num_return_sequences", "no_repeat_ngram_size"), (int,)),
    **dict.fromkeys(("length_penalty", "diversity_penalty", "repetition_penalty"), (int, float)),
    **dict.fromkeys(("temperature", "top_p", "min_p"), (int, float)),
    **dict.fromkeys(("do_sample", "renormalize_logits"), (bool,)),
}
_EARLY_STOPPING = {True: "true", False: "false", "never": "never"}


def read_generation_config(
    generation: Mapping[str, Any], special: SpecialTokenIds, target: Vocabulary
) -> dict[str, Any]:
    """The values of ``config.decode`` that differ from its defaults.

    Args:
      generation: the file's content, or that of config.json where there is no such file.
      special: the special token ids.
      target: the target vocabulary.

    Raises:
      InputError: the file has settings that are not supported; the message lists all of them.
    """
    given = {key: value for key, value in generation.items() if value is not None}
    _check_types(given, target.size)
    unsupported = [f"{key}={value!r}" for key, value in given.items() if _is_unsupported(key, value)]
    decode, problems = _read_method(given)
    decode |= {
        "beam_variant": "hf",
        "length_penalty": given.get("length_penalty", 1.0),
        "renormalize_logits": given.get("renormalize_logits", False),
        # A target language that the user names is forced in any case.
        "forced_bos": bool(special.forced_bos) or target.prefix_ids != (special.bos,),
        "end_tokens": tuple(target.token(i) for i in special.extra_eos),
    }
    if given.get("repetition_penalty", 1) != 1:
        decode["repetition_penalty"] = given["repetition_penalty"]
        if decode["method"] != "beam" or special.decoder_start == special.eos:
            problems.append(
                f"repetition_penalty={given['repetition_penalty']} (only with beams, and where the decoder does not "
                "start with the end token)"
            )
    if given.get("forced_eos_token_id", special.eos) not in (special.eos, [special.eos]):
        problems.append(f"forced_eos_token_id={given['forced_eos_token_id']} beside eos_token_id={special.eos}")
    suppressed, refused = _read_suppressed(given, special, target)
    if unsupported := unsupported + problems + refused:
        reason = f"has settings that are not supported: {', '.join(unsupported)}"
        raise InputError(_FILE, reason, "remove the keys that do not matter")
    decode |= {"forced_eos": "forced_eos_token_id" in given, "suppress_tokens": suppressed}
    decode |= {"no_repeat_ngram_size": given.get("no_repeat_ngram_size", 0), "min_length": _min_length(given)}
    return decode | _max_length(given)


def write_generation_config(decode: Mapping[str, Any], special: SpecialTokenIds, target: Vocabulary) -> dict[str, Any]:
    """The equivalent generation_config.json, which cannot express a length limit relative to the source."""
    values: dict[str, Any] = {
        "pad_token_id": special.pad,
        "eos_token_id": [special.eos, *special.extra_eos] if special.extra_eos else special.eos,
        "decoder_start_token_id": special.decoder_start,
        "bos_token_id": special.bos,
    }
    if special.forced_bos:
        values["forced_bos_token_id"] = special.forced_bos[0]
    if decode["forced_eos"]:
        values["forced_eos_token_id"] = special.eos
    if decode["method"] == "beam":
        values |= {"num_beams": decode["beam_size"], "length_penalty": decode["length_penalty"]}
        values["early_stopping"] = {name: value for value, name in _EARLY_STOPPING.items()}[decode["early_stopping"]]
    if decode["method"] in ("sample", "mbr"):
        values |= {"do_sample": True} | {key: decode[key] for key in ("top_k", "temperature", "top_p", "min_p")}
    if decode["repetition_penalty"] != 1:
        values["repetition_penalty"] = decode["repetition_penalty"]
    if decode["no_repeat_ngram_size"]:
        values["no_repeat_ngram_size"] = decode["no_repeat_ngram_size"]
    if decode["min_length"]:
        values["min_length"] = decode["min_length"] + 1
    if decode["renormalize_logits"]:
        values["renormalize_logits"] = True
    suppressed = suppressed_ids(decode["suppress_tokens"], target)
    values["suppress_tokens"] = sorted({special.pad} - {special.eos}) + [ids[0] for ids in suppressed if len(ids) == 1]
    if sequences := [list(ids) for ids in suppressed if len(ids) > 1]:
        values["bad_words_ids"] = sequences
    if not decode["max_length_ratio"]:
        values["max_length"] = decode["max_length_offset"] + 1
    return values


def _is_unsupported(key: str, value: Any) -> bool:
    if key in _SUPPORTED or key in _IRRELEVANT:
        return False
    return value not in _NEUTRAL[key] if key in _NEUTRAL else value not in (False,)


def _check_types(given: Mapping[str, Any], size: int) -> None:
    """Raises ``InputError`` that lists all values of a wrong type and all ids outside the target vocabulary."""
    wrong = [f"{key}={given[key]!r}" for key, types in _TYPES.items() if key in given and type(given[key]) not in types]
    words = given.get("bad_words_ids", [])
    lists = [*(words if isinstance(words, list) else [words]), given.get("suppress_tokens", [])]
    wrong += [
        f"token ids {ids!r}, which must be a list of integers below {size}"
        for ids in lists
        if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < size for i in ids)
    ]
    if wrong:
        raise InputError(_FILE, f"invalid values: {', '.join(wrong)}")


def _read_method(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The decoding method with its settings, and what of it is not supported."""
    beams = given.get("num_beams", 1)
    if given.get("do_sample"):
        count = given.get("num_return_sequences", 1)
        decode = {"method": "sample", "num_samples": count, "n_best": count, "top_k": given.get("top_k", 50)}
        decode |= {key: given[key] for key in ("temperature", "top_p", "min_p") if key in given}
        return decode | {"beam_size": 1}, ["num_beams with do_sample"] * (beams > 1)
    if beams <= 1:
        return {"method": "greedy", "beam_size": 1}, []
    stopping = given.get("early_stopping", False)
    decode = {
        "method": "beam",
        "beam_size": beams,
        "n_best": given.get("num_return_sequences", 1),
        "early_stopping": _EARLY_STOPPING.get(stopping, "false"),
        "num_beam_groups": given.get("num_beam_groups", 1),
        "diversity_penalty": given.get("diversity_penalty", 0),
    }
    return decode, [f"early_stopping={stopping!r}"] * (stopping not in _EARLY_STOPPING)


def _read_suppressed(
    given: Mapping[str, Any], special: SpecialTokenIds, target: Vocabulary
) -> tuple[tuple[str, ...], list[str]]:
    """The value of ``config.decode.suppress_tokens``, and what cannot be suppressed."""
    ends = {special.eos, *special.extra_eos}
    words = [list(word) for word in given.get("bad_words_ids", []) if len(word) != 1 or word[0] not in ends]
    listed = set(given.get("suppress_tokens", []))
    refused = [f"suppress_tokens with the end token {i}" for i in sorted(listed & ends - {special.decoder_start})]
    single = {word[0] for word in words if len(word) == 1} | listed
    entries = [target.token(i) for i in sorted(single - {special.pad, special.decoder_start} - ends)]
    for word in words:
        tokens = [target.token(i) for i in word]
        if len(word) > 1 and not any(" " in token for token in tokens):
            entries.append(" ".join(tokens))
        elif len(word) != 1:
            refused.append(f"bad_words_ids with {word}")
    return tuple(entries), refused


def _min_length(given: Mapping[str, Any]) -> int:
    """Tokens without the decoder's start token, which ``min_length`` of the file includes."""
    return max(given.get("min_length", 0) - 1, given.get("min_new_tokens", 0), 0)


def _max_length(given: Mapping[str, Any]) -> dict[str, Any]:
    """The limit of the file; none of the keys, and so the default relative to the source, where it has none."""
    if "max_new_tokens" in given:
        return {"max_length_ratio": 0.0, "max_length_offset": given["max_new_tokens"]}
    if "max_length" in given:
        return {"max_length_ratio": 0.0, "max_length_offset": max(given["max_length"] - 1, 1)}
    return {}
