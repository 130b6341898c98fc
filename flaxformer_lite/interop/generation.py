"""How a published model searches (``generation_config.json``), in our ``decode`` settings and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flaxformer_lite.data.vocabularies.vocabulary import Vocabulary
from flaxformer_lite.errors import InputError
from flaxformer_lite.inference.search_from_config import forbidden_ids
from flaxformer_lite.interop.roles import Roles

# What does nothing at these values (None besides), and is not supported at others.
_IDLE: dict[str, tuple[Any, ...]] = {
    **{"typical_p": (1, 1.0), "encoder_no_repeat_ngram_size": (0,), "encoder_repetition_penalty": (1, 1.0)},
    **{"epsilon_cutoff": (0, 0.0), "eta_cutoff": (0, 0.0), "guidance_scale": (1, 1.0), "penalty_alpha": (0, 0.0)},
    **{"top_h": (), "stop_strings": (), "force_words_ids": (), "constraints": (), "sequence_bias": ()},
    **{"exponential_decay_length_penalty": (), "begin_suppress_tokens": ([],), "watermarking_config": ()},
    **{"dola_layers": (), "max_time": (), "token_healing": (False,)},
}
_UNDERSTOOD = (
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
KEYS = frozenset(_UNDERSTOOD + tuple(_IDLE))  # config.json may have them as well, in older folders
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("max_length", "max_new_tokens", "min_length", "min_new_tokens", "num_beams", "top_k"), (int,)),
    **dict.fromkeys(("num_beam_groups", "num_return_sequences", "no_repeat_ngram_size"), (int,)),
    **dict.fromkeys(("length_penalty", "diversity_penalty", "repetition_penalty"), (int, float)),
    **dict.fromkeys(("temperature", "top_p", "min_p"), (int, float)),
    **dict.fromkeys(("do_sample", "renormalize_logits"), (bool,)),
}
_STOPPING = {True: "true", False: "false", "never": "never"}


def read_decode(generation: Mapping[str, Any], roles: Roles, target: Vocabulary) -> dict[str, Any]:
    """Values of ``config.decode`` that differ from its defaults.

    Args:
      generation: what the file says, or config.json where there is none.
      roles: the special ids.
      target: the target vocabulary.

    Raises:
      InputError: it asks for what is not supported; the message lists all of that.
    """
    said = {key: value for key, value in generation.items() if value is not None}
    _require_types(said, target.size)
    refused = [f"{key}={value!r}" for key, value in said.items() if _is_refused(key, value)]
    found: dict[str, Any] = {"beam_variant": "hf", "length_penalty": said.get("length_penalty", 1.0), "beam_size": 1}
    # A language that the user names opens what is said in any case.
    opened = bool(roles.forced) or target.opening != (roles.begin,)
    found |= {"renormalize_logits": said.get("renormalize_logits", False), "forced_bos": opened}
    found["end_tokens"] = tuple(target.token(i) for i in roles.ends)
    if said.get("do_sample"):
        found |= {
            "method": "sample",
            "num_samples": said.get("num_return_sequences", 1),
            "top_k": said.get("top_k", 50),
        }
        found |= {key: said[key] for key in ("temperature", "top_p", "min_p") if key in said}
        found["n_best"] = found["num_samples"]
        refused += ["num_beams with do_sample"] * (said.get("num_beams", 1) > 1)
    elif said.get("num_beams", 1) > 1:
        found |= {"method": "beam", "beam_size": said["num_beams"], "n_best": said.get("num_return_sequences", 1)}
        stopping = said.get("early_stopping", False)
        found["early_stopping"] = _STOPPING.get(stopping, "false")
        refused += [f"early_stopping={stopping!r}"] * (stopping not in _STOPPING)
        found |= {
            "num_beam_groups": said.get("num_beam_groups", 1),
            "diversity_penalty": said.get("diversity_penalty", 0),
        }
    else:
        found["method"] = "greedy"
    if said.get("repetition_penalty", 1) != 1:
        found["repetition_penalty"] = said["repetition_penalty"]
        if found["method"] != "beam" or roles.start == roles.end:
            refused.append(f"repetition_penalty={said['repetition_penalty']} without beams, or behind the end token")
    if said.get("forced_eos_token_id", roles.end) not in (roles.end, [roles.end]):
        refused.append(f"forced_eos_token_id={said['forced_eos_token_id']} beside eos_token_id={roles.end}")
    forbidden, unsayable = _forbidden(said, roles, target)
    if refused := refused + unsayable:
        raise InputError(
            "generation_config.json asks for what is not supported here: " + ", ".join(refused) + "; take out what "
            "shall not matter"
        )
    found |= {"forced_eos": "forced_eos_token_id" in said, "suppress_tokens": forbidden}
    found |= {"no_repeat_ngram_size": said.get("no_repeat_ngram_size", 0), "min_length": _min_length(said)}
    return found | _limits(said)


def write_generation(decode: Mapping[str, Any], roles: Roles, target: Vocabulary) -> dict[str, Any]:
    """The file that says the same, as far as it can: limits that follow the source's length it has none."""
    said: dict[str, Any] = {
        "pad_token_id": roles.pad,
        "eos_token_id": [roles.end, *roles.ends] if roles.ends else roles.end,
        "decoder_start_token_id": roles.start,
        "bos_token_id": roles.begin,
    }
    if roles.forced:
        said["forced_bos_token_id"] = roles.forced[0]
    if decode["forced_eos"]:
        said["forced_eos_token_id"] = roles.end
    if decode["method"] == "beam":
        said |= {"num_beams": decode["beam_size"], "length_penalty": decode["length_penalty"]}
        said["early_stopping"] = {name: value for value, name in _STOPPING.items()}[decode["early_stopping"]]
    if decode["method"] in ("sample", "mbr"):
        said |= {"do_sample": True, "top_k": decode["top_k"]} | {
            key: decode[key] for key in ("temperature", "top_p", "min_p")
        }
    if decode["repetition_penalty"] != 1:
        said["repetition_penalty"] = decode["repetition_penalty"]
    if decode["no_repeat_ngram_size"]:
        said["no_repeat_ngram_size"] = decode["no_repeat_ngram_size"]
    if decode["min_length"]:
        said["min_length"] = decode["min_length"] + 1
    if decode["renormalize_logits"]:
        said["renormalize_logits"] = True
    forbidden = forbidden_ids(decode["suppress_tokens"], target)
    said["suppress_tokens"] = sorted({roles.pad} - {roles.end}) + [ids[0] for ids in forbidden if len(ids) == 1]
    if sequences := [list(ids) for ids in forbidden if len(ids) > 1]:
        said["bad_words_ids"] = sequences
    if not decode["max_length_ratio"]:
        said["max_length"] = decode["max_length_offset"] + 1
    return said


def _is_refused(key: str, value: Any) -> bool:
    if key in _UNDERSTOOD or key in _IRRELEVANT:
        return False
    return value not in _IDLE[key] if key in _IDLE else value not in (False,)


def _require_types(said: Mapping[str, Any], size: int) -> None:
    """Raises ``InputError`` where a value is of another type than it should be, or no id of the target vocabulary."""
    wrong = [f"{key}={said[key]!r}" for key, types in _TYPES.items() if key in said and type(said[key]) not in types]
    words = said.get("bad_words_ids", [])
    lists = [*(words if isinstance(words, list) else [words]), said.get("suppress_tokens", [])]
    wrong += [
        f"{ids!r} as tokens, whose ids are below {size}"
        for ids in lists
        if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < size for i in ids)
    ]
    if wrong:
        raise InputError(f"generation_config.json has what cannot be: {', '.join(wrong)}")


def _forbidden(said: Mapping[str, Any], roles: Roles, target: Vocabulary) -> tuple[tuple[str, ...], list[str]]:
    """What is never said, as ``config.decode.suppress_tokens`` has it, and what cannot be forbidden."""
    ends = {roles.end, *roles.ends}
    words = [list(word) for word in said.get("bad_words_ids", []) if len(word) != 1 or word[0] not in ends]
    silenced = set(said.get("suppress_tokens", []))
    refused = [f"suppress_tokens with {i}, which ends what is said" for i in sorted(silenced & ends - {roles.start})]
    single = {word[0] for word in words if len(word) == 1} | silenced
    entries = [target.token(i) for i in sorted(single - {roles.pad, roles.start} - ends)]
    for word in words:
        tokens = [target.token(i) for i in word]
        if len(word) > 1 and not any(" " in token for token in tokens):
            entries.append(" ".join(tokens))
        elif len(word) != 1:
            refused.append(f"bad_words_ids with {word}")
    return tuple(entries), refused


def _min_length(said: Mapping[str, Any]) -> int:
    """Tokens without the start token, which the file counts."""
    return max(said.get("min_length", 0) - 1, said.get("min_new_tokens", 0), 0)


def _limits(said: Mapping[str, Any]) -> dict[str, Any]:
    """The limit that the file says; one that follows the source where it says none."""
    if "max_new_tokens" in said:
        return {"max_length_ratio": 0.0, "max_length_offset": said["max_new_tokens"]}
    if "max_length" in said:
        return {"max_length_ratio": 0.0, "max_length_offset": max(said["max_length"] - 1, 1)}
    return {}
