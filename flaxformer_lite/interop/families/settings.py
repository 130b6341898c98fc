"""What the keys of a published ``config.json`` are in our ``model`` group, as tables read in both directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop.families.tensors import Names

Values = dict[str, Any]

# Of our model group what is no matter of architecture: how it is trained, and what is recurrent.
_NOT_ITS = ("remat", "scan_layers", "init", "rnn.", "embeddings.multiple")

# Keys of any config.json that change nothing in what a model computes.
_SILENT = """
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
SILENT = frozenset(_SILENT.split())


class Setting(NamedTuple):
    """One key of theirs, which one or several of ours have the value of.

    Attributes:
      theirs: the key.
      default: of a config.json that lacks it.
      ours: dotted keys of the group ``model``.
    """

    theirs: str
    default: Any
    ours: tuple[str, ...]


class Family(NamedTuple):
    """All that one ``model_type`` is.

    Attributes:
      to_model: dotted keys of our model group and their values, of a config.json and of which word vectors the tensors
        are shared (a value of ``model.share_embeddings``).
      from_model: the inverse, of all dotted keys of a model; a config.json's keys.
      names: the tensors of a model.
      tables: names of the tensors with vectors of source words, of target words and of the output; of each the first
        that a file has counts.
      sizes: entries of the source and of the target vocabulary.
    """

    to_model: Callable[[Mapping[str, Any], str], Values]
    from_model: Callable[[Values], Values]
    names: Callable[[ModelConfig], Names]
    tables: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    sizes: Callable[[Mapping[str, Any]], tuple[int, int]]


def read(settings: Sequence[Setting], config: Mapping[str, Any]) -> Values:
    """Our values of theirs.

    Raises:
      InputError: one is of another type than its default; the message lists all of them.
    """
    given = {setting.theirs: config.get(setting.theirs, setting.default) for setting in settings}
    kinds: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int, float), float: (int, float), str: (str,)}
    wrong = [
        f"{setting.theirs}={given[setting.theirs]!r} (such as {setting.default!r})"
        for setting in settings
        if type(given[setting.theirs]) not in kinds[type(setting.default)]
    ]
    if wrong:
        raise InputError(f"config.json: these are of another type than they should be: {', '.join(wrong)}")
    return {ours: given[setting.theirs] for setting in settings for ours in setting.ours}


def write(settings: Sequence[Setting], model: Values) -> Values:
    """Theirs of ours; of several keys the first one's."""
    return {setting.theirs: model[setting.ours[0]] for setting in settings}


def sharing(same: tuple[bool, bool]) -> str:
    """The value of ``model.share_embeddings``.

    Args:
      same: whether source and target have the same vectors, and whether target and output have.
    """
    return {(True, True): "all", (True, False): "inputs", (False, True): "target", (False, False): "none"}[same]


def require_only(config: Mapping[str, Any], read: Collection[str], fixed: Mapping[str, Any]) -> None:
    """Raises ``InputError`` that names all keys of a config.json which ask for what we have not.

    Args:
      config: theirs.
      read: keys that are taken over.
      fixed: keys that may have one value alone, or be absent.
    """
    wrong = [
        f"{key}={config[key]!r} (only {value!r})" for key, value in fixed.items() if config.get(key, value) != value
    ]
    known = {*read, *fixed, *SILENT}
    wrong += [f"{key}={value!r}" for key, value in config.items() if key not in known and value is not None]
    if wrong:
        raise InputError(f"config.json asks for what this model cannot do: {', '.join(wrong)}")


def flat(model: ModelConfig) -> Values:
    """All dotted keys of a model group that are a matter of architecture."""

    def walk(values: Mapping[str, Any], prefix: str) -> Values:
        found = {}
        for key, value in values.items():
            found |= walk(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        return found

    return {key: value for key, value in walk(dataclasses.asdict(model), "").items() if not key.startswith(_NOT_ITS)}


def require_expressible(family: Family, model: ModelConfig) -> None:
    """Raises ``InputError`` that names all keys by which a model is none of this family."""
    ours = flat(model)
    back = family.to_model(family.from_model(ours), model.share_embeddings)
    wrong = [f"config.model.{key}={ours[key]!r} (there: {back[key]!r})" for key in back if back[key] != ours[key]]
    if wrong:
        raise InputError(f"this model is none of that family: {', '.join(wrong)}")
