"""Mapping between the keys of a published ``config.json`` and those of ``config.model``, used in both directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict

from flaxformer_lite.config.model_dataclasses import ModelConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop.families.name_map import NameMap

Values = dict[str, Any]

# Keys and groups of config.model that are no matter of architecture, or only of recurrent stacks.
_NOT_ARCHITECTURE = {"remat", "scan_layers", "init", "vocab_pad_multiple", "rnn", "options"}

# Keys of config.json that do not change what a model computes.
_IGNORED = """
    _attn_implementation_autoset _commit_hash _name_or_path _num_labels add_bias_logits add_final_layer_norm
    architectures attn_implementation bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward
    classif_dropout classifier_dropout classifier_dropout_rate cross_attention_hidden_size decoder_start_token_id
    diversity_penalty do_blenderbot_90_layernorm do_sample dtype early_stopping encoder_no_repeat_ngram_size
    eos_token_id exponential_decay_length_penalty extra_pos_embeddings finetuning_task
    force_bos_token_to_be_generated forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label init_std
    initializer_factor initializer_range is_decoder is_encoder_decoder label2id length_penalty max_length
    max_new_tokens min_length model_type n_positions no_repeat_ngram_size normalize_before normalize_embedding
    num_beam_groups num_beams num_hidden_layers num_labels num_return_sequences output_attentions
    output_hidden_states output_past output_scores pad_token_id prefix problem_type pruned_heads
    quantization_config_path remove_invalid_values repetition_penalty return_dict return_dict_in_generate save_step
    scalable_attention sep_token_id static_position_embeddings suppress_tokens task_specific_params temperature
    tf_legacy_loss tokenizer_class top_k top_p torch_dtype torchscript total_flos transformers_version typical_p
    use_bfloat16 use_cache
"""
IGNORED_KEYS = frozenset(_IGNORED.split())


class KeyRule(NamedTuple):
    """One key of config.json and the keys here with the same value.

    Attributes:
      published: the key in config.json.
      default: its value if it is missing there.
      keys: dotted keys of a stack (``config.model.encoder`` or ``decoder``) or of ``config.model``.
    """

    published: str
    default: Any
    keys: tuple[str, ...]


class Family(NamedTuple):
    """One ``model_type``.

    Attributes:
      config_to_model: from a config.json and the value of ``model.share_embeddings`` to dotted keys of ``config.model``
        and their values.
      model_to_config: from all dotted keys of ``config.model`` to a config.json.
      name_map: the tensors of a model.
      embedding_tables: possible names of the tensors with source, target and output embeddings; the first that a file
        has is used.
      vocab_sizes: number of ids of the source and of the target vocabulary, from a config.json.
    """

    config_to_model: Callable[[Mapping[str, Any], str], Values]
    model_to_config: Callable[[Values], Values]
    name_map: Callable[[ModelConfig], NameMap]
    embedding_tables: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    vocab_sizes: Callable[[Mapping[str, Any]], tuple[int, int]]


def read_keys(rules: Sequence[KeyRule], config: Mapping[str, Any]) -> Values:
    """The values of the rules' keys from a config.json.

    Raises:
      InputError: a value has another type than the default; the message lists all of them.
    """
    given = {rule.published: config.get(rule.published, rule.default) for rule in rules}
    types: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int, float), float: (int, float), str: (str,)}
    wrong = [
        f"{rule.published}={given[rule.published]!r} (such as {rule.default!r})"
        for rule in rules
        if type(given[rule.published]) not in types[type(rule.default)]
    ]
    if wrong:
        raise InputError("config.json", f"values of a wrong type: {', '.join(wrong)}")
    return {key: given[rule.published] for rule in rules for key in rule.keys}


def write_keys(rules: Sequence[KeyRule], values: Values) -> Values:
    """The values of config.json; where a rule has several keys, that of the first."""
    return {rule.published: values[rule.keys[0]] for rule in rules}


def read_choice(key: str, value: Any, choices: Mapping[str, Any]) -> Any:
    """The value here of one of several names in config.json.

    Raises:
      InputError: it is none of them.
    """
    if value not in choices:
        raise InputError("config.json", f"{key}={value!r} is not supported; {', '.join(choices)} are")
    return choices[value]


def write_choice(value: Any, choices: Mapping[str, Any]) -> str:
    """The first name in config.json of a value here."""
    return next(name for name, own in choices.items() if own == value)


def join_stacks(encoder: Values, decoder: Values) -> Values:
    """Keys of ``config.model`` from those of its two stacks."""
    return flatten_dict({"encoder": encoder, "decoder": decoder}, sep=".")


def split_stacks(model: Values) -> tuple[Values, Values]:
    """The keys of the encoder and of the decoder, without these names."""
    encoder, decoder = (
        {key.removeprefix(prefix): value for key, value in model.items() if key.startswith(prefix)}
        for prefix in ("encoder.", "decoder.")
    )
    return encoder, decoder


def share_embeddings(source_is_target: bool, output_is_target: bool) -> str:
    """The value of ``config.model.share_embeddings``."""
    if source_is_target:
        return "all" if output_is_target else "inputs"
    return "target" if output_is_target else "none"


def check_keys(config: Mapping[str, Any], known: Collection[str], fixed: Mapping[str, Any]) -> None:
    """Raises ``InputError`` that lists all keys of a config.json that are not supported.

    Args:
      config: the config.json.
      known: keys that are converted.
      fixed: keys that must have this value or be absent.
    """
    wrong = [
        f"{key}={config[key]!r} (only {value!r})" for key, value in fixed.items() if config.get(key, value) != value
    ]
    wrong += [
        f"{key}={value!r}"
        for key, value in config.items()
        if key not in {*known, *fixed, *IGNORED_KEYS} and value is not None
    ]
    if wrong:
        raise InputError("config.json", f"has settings that are not supported: {', '.join(wrong)}")


def architecture(model: ModelConfig) -> Values:
    """All dotted keys of ``config.model`` that determine the architecture; a size of 0 is replaced by its meaning."""
    values = flatten_dict(dataclasses.asdict(model), sep=".")
    return _resolve({key: value for key, value in values.items() if not _NOT_ARCHITECTURE & {*key.split(".")}})


def differences(family: Family, model: ModelConfig) -> list[str]:
    """The keys in which a model differs from every model of a family.

    Raises:
      InputError: a value has no counterpart in the family's config.json.
    """
    own = architecture(model)
    converted = _resolve(family.config_to_model(family.model_to_config(own), model.share_embeddings))
    return [
        f"config.model.{key}={own[key]!r} (only {value!r})" for key, value in converted.items() if value != own[key]
    ]


def _resolve(model: Values) -> Values:
    resolved = dict(model)
    for stack in ("encoder", "decoder"):
        heads = model[f"{stack}.num_heads"]
        resolved[f"{stack}.num_kv_heads"] = model[f"{stack}.num_kv_heads"] or heads
        resolved[f"{stack}.head_dim"] = model[f"{stack}.head_dim"] or model[f"{stack}.width"] // heads
    return resolved
