"""Published checkpoints with small sizes and random weights.

Settings, file names and tensor names are those of the publishers; vocabulary sizes are those of small tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from tests.interop import hub_tokenizers as tokenizers
from tests.interop.tokenizer_files import write

Ids = dict[str, int]


class Checkpoint(NamedTuple):
    """A published checkpoint.

    Attributes:
      tokenizer: writes the tokenizer's files into a directory and returns its ids.
      config: its config.json, from these ids.
      generation: its generation_config.json, from these ids; empty if there is none.
      languages: source and target language to import it for.
      stored: from the tensors of the reference to those of the file.
      arguments: arguments of ``generate`` for these languages.
    """

    tokenizer: Callable[[Path], Ids]
    config: Callable[[Ids], dict[str, Any]]
    generation: Callable[[Ids], dict[str, Any]]
    languages: tuple[str, str] = ("", "")
    stored: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = dict
    arguments: Callable[[Ids], dict[str, Any]] = lambda ids: {}


_LABELS = {
    "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
}
_OF_MODEL = {"_from_model_config": True, "transformers_version": "4.27.0.dev0"}


def _t5_sizes(ids: Ids) -> dict[str, Any]:
    sizes = {"d_ff": 14, "d_kv": 5, "d_model": 12, "num_heads": 3, "num_layers": 3}
    return {
        **sizes,
        "vocab_size": ids["size"],
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "dropout_rate": 0.1,
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        "layer_norm_epsilon": 1e-06,
        "relative_attention_num_buckets": 8,
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
    }


def _t5_generation(ids: Ids) -> dict[str, Any]:
    return {**_OF_MODEL, "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}


_T5_TASKS = {
    "summarization": {
        **{"early_stopping": True, "length_penalty": 2.0, "max_length": 200, "min_length": 30},
        **{"no_repeat_ngram_size": 3, "num_beams": 4, "prefix": "summarize: "},
    },
    "translation_en_to_de": {
        **{"early_stopping": True, "max_length": 300, "num_beams": 4, "prefix": "translate English to German: "}
    },
}


def _t5_small(ids: Ids) -> dict[str, Any]:
    return _t5_sizes(ids) | {"n_positions": 512, "output_past": True, "task_specific_params": _T5_TASKS}


def _flan_t5(ids: Ids) -> dict[str, Any]:
    newer = {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 2, "relative_attention_max_distance": 128}
    newer |= {"tie_word_embeddings": False, "transformers_version": "4.23.1", "use_cache": True}
    return _t5_small(ids) | newer


def _codet5(ids: Ids) -> dict[str, Any]:
    own = {"bos_token_id": 1, "eos_token_id": 2, "feed_forward_proj": "relu", "gradient_checkpointing": False}
    return _t5_small(ids) | own | {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "num_decoder_layers": 2}


def _byt5(ids: Ids) -> dict[str, Any]:
    newer = {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 2, "gradient_checkpointing": False}
    newer |= {"tie_word_embeddings": False, "tokenizer_class": "ByT5Tokenizer", "transformers_version": "4.7.0.dev0"}
    return _t5_sizes(ids) | newer | {"use_cache": True}


def _mt5(ids: Ids) -> dict[str, Any]:
    newer = {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 2, "_name_or_path": "/home/patrick/t5/mt5-small"}
    newer |= {"tie_word_embeddings": False, "tokenizer_class": "T5Tokenizer", "transformers_version": "4.10.0.dev0"}
    named = {"architectures": ["MT5ForConditionalGeneration"], "model_type": "mt5", "use_cache": True}
    return _t5_sizes(ids) | newer | named


def _umt5(ids: Ids) -> dict[str, Any]:
    newer = {"classifier_dropout": 0.0, "dense_act_fn": "gelu_new", "is_gated_act": True, "output_past": True}
    newer |= {"relative_attention_max_distance": 128, "scalable_attention": True, "torch_dtype": "float32"}
    named = {"architectures": ["UMT5ForConditionalGeneration"], "model_type": "umt5"}
    return _mt5(ids) | newer | named | {"transformers_version": "4.31.0.dev0"}


def _with_copies(*names: str) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Stores the embeddings under each of these names too."""

    def stored(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return tensors | dict.fromkeys(names, tensors["shared.weight"])

    return stored


def _t5_stored(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Early files have a relative bias of cross-attention that nothing uses."""
    kept = {name: x for name, x in tensors.items() if "embed_tokens" not in name and name != "lm_head.weight"}
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    return kept | {unused: np.ones((8, 3), np.float32)}


def _bart_sizes(ids: Ids) -> dict[str, Any]:
    return {
        **{"d_model": 12, "encoder_layers": 3, "decoder_layers": 2, "num_hidden_layers": 3},
        **{"encoder_attention_heads": 3, "decoder_attention_heads": 2, "encoder_ffn_dim": 14, "decoder_ffn_dim": 11},
        **{"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0, "max_position_embeddings": 64, "init_std": 0.02},
        **{"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1, "classifier_dropout": 0.0},
        **{"is_encoder_decoder": True, "use_cache": True, "vocab_size": ids["size"]},
    }


def _early(ids: Ids) -> dict[str, Any]:
    """Further keys of the first files of BART and related models."""
    return _bart_sizes(ids) | {
        **{"add_bias_logits": False, "add_final_layer_norm": False, "classif_dropout": 0.0},
        **{"gradient_checkpointing": False, "normalize_before": False, "normalize_embedding": True},
        **{"output_past": True, "static_position_embeddings": False, "extra_pos_embeddings": 2, "_num_labels": 3},
        **_LABELS,
    }


_BART_IDS = {"bos_token_id": 0, "decoder_start_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}
_BART_TASKS = {"summarization": {"length_penalty": 1.0, "max_length": 128, "min_length": 12, "num_beams": 4}}


def _bart_base(ids: Ids) -> dict[str, Any]:
    search = {"early_stopping": True, "no_repeat_ngram_size": 3, "num_beams": 4, "forced_bos_token_id": 0}
    named = {"architectures": ["BartModel"], "model_type": "bart", "activation_function": "gelu"}
    newer = {"forced_eos_token_id": 2, "scale_embedding": False, "torch_dtype": "float32"}
    return _early(ids) | _BART_IDS | search | named | newer | {"task_specific_params": _BART_TASKS}


def _bart_large_cnn(ids: Ids) -> dict[str, Any]:
    search = {"length_penalty": 2.0, "max_length": 14, "min_length": 6, "early_stopping": True, "prefix": " "}
    named = {"architectures": ["BartForConditionalGeneration"], "model_type": "bart", "activation_function": "gelu"}
    newer = {"force_bos_token_to_be_generated": True, "forced_eos_token_id": 2, "scale_embedding": False}
    return _bart_base(ids) | search | named | newer | {"vocab_size": ids["size"] - 1}  # one less than the tokenizer


def _bart_large_cnn_generation(ids: Ids) -> dict[str, Any]:
    search = {"early_stopping": True, "length_penalty": 2.0, "max_length": 14, "min_length": 6, "num_beams": 4}
    return {**_OF_MODEL, **_BART_IDS, **search, "forced_bos_token_id": 0, "forced_eos_token_id": 2} | {
        "no_repeat_ngram_size": 3
    }


def _without_prefix(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As the base model without a head is stored."""
    return {name.removeprefix("model."): x for name, x in tensors.items() if name.startswith("model.")}


def _mbart(ids: Ids) -> dict[str, Any]:
    named = {"architectures": ["MBartForConditionalGeneration"], "model_type": "mbart", "activation_function": "gelu"}
    own = {"add_final_layer_norm": True, "normalize_before": True, "scale_embedding": True}
    given = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "forced_eos_token_id": 2}
    return _early(ids) | named | own | given | {"max_length": 15, "num_beams": 5}


def _mbart_cc25(ids: Ids) -> dict[str, Any]:
    return _mbart(ids) | {
        "task_specific_params": {"translation_en_to_ro": {"decoder_start_token_id": ids["ro_RO"]}},
    }


def _mbart_en_ro(ids: Ids) -> dict[str, Any]:
    return _mbart_cc25(ids) | {"decoder_start_token_id": ids["ro_RO"]}


def _mbart_en_ro_generation(ids: Ids) -> dict[str, Any]:
    search = {"forced_eos_token_id": 2, "max_length": 15, "num_beams": 5}
    return {**_OF_MODEL, **_BART_IDS, **search, "decoder_start_token_id": ids["ro_RO"]}


def _mbart_50(ids: Ids) -> dict[str, Any]:
    newer = {"decoder_start_token_id": 2, "early_stopping": True, "tokenizer_class": "MBart50Tokenizer"}
    return _mbart(ids) | newer | {"activation_function": "relu", "transformers_version": "4.4.0.dev0"}


def _mbart_50_generation(ids: Ids) -> dict[str, Any]:
    search = {"early_stopping": True, "forced_eos_token_id": 2, "max_length": 15, "num_beams": 5}
    return {**_OF_MODEL, **_BART_IDS, **search}


def _marian(ids: Ids) -> dict[str, Any]:
    pad = ids["pad"]
    given = {"bos_token_id": 0, "eos_token_id": 0, "forced_eos_token_id": 0, "pad_token_id": pad}
    given |= {"decoder_start_token_id": pad, "bad_words_ids": [[pad]], "max_length": 15, "num_beams": 4}
    own = {"activation_function": "swish", "static_position_embeddings": True, "scale_embedding": True}
    own |= {"extra_pos_embeddings": ids["size"], "normalize_embedding": False, "decoder_vocab_size": ids["size"]}
    named = {"architectures": ["MarianMTModel"], "model_type": "marian", "share_encoder_decoder_embeddings": True}
    return _early(ids) | given | own | named


def _marian_generation(ids: Ids) -> dict[str, Any]:
    pad = ids["pad"]
    given = {"bad_words_ids": [[pad]], "bos_token_id": 0, "decoder_start_token_id": pad, "eos_token_id": 0}
    search = {"forced_eos_token_id": 0, "max_length": 15, "num_beams": 4, "renormalize_logits": True}
    return {**_OF_MODEL, **given, **search, "pad_token_id": pad}


def _marian_stored(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    shared = tensors["model.shared.weight"]
    sides = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    return tensors | dict.fromkeys(sides, shared)


def _pegasus(ids: Ids) -> dict[str, Any]:
    named = {"architectures": ["PegasusForConditionalGeneration"], "model_type": "pegasus"}
    given = {"bos_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1, "forced_eos_token_id": 1}
    own = {"activation_function": "relu", "static_position_embeddings": True, "scale_embedding": True}
    own |= {"add_final_layer_norm": True, "normalize_before": True, "normalize_embedding": False, "save_step": 58}
    own |= {"extra_pos_embeddings": 0, "force_bos_token_to_be_generated": False, "pad_token_id": 0}
    search = {"length_penalty": 0.6, "max_length": 15, "num_beams": 8}
    tasks = {"summarization_aeslc": {"length_penalty": 0.6, "max_length": 32, "max_position_embeddings": 512}}
    return _early(ids) | named | given | own | search | {"task_specific_params": tasks}


def _pegasus_generation(ids: Ids) -> dict[str, Any]:
    given = {"bos_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1, "forced_eos_token_id": 1}
    search = {"length_penalty": 0.8, "max_length": 15, "min_length": 5, "num_beams": 8, "pad_token_id": 0}
    return {**_OF_MODEL, **given, **search}


def _m2m_100(ids: Ids) -> dict[str, Any]:
    named = {"architectures": ["M2M100ForConditionalGeneration"], "model_type": "m2m_100", **_BART_IDS}
    own = {"activation_function": "relu", "scale_embedding": True, "gradient_checkpointing": False}
    search = {"early_stopping": True, "max_length": 15, "num_beams": 5}
    return _bart_sizes(ids) | named | own | search | {"decoder_layerdrop": 0.05, "encoder_layerdrop": 0.05}


def _m2m_100_stored(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Early files contain the computed sinusoidal positions, and versions."""
    sinusoids = {
        f"model.{side}.embed_positions.weights": np.ones((66, 12), np.float32) for side in ("encoder", "decoder")
    }
    return tensors | sinusoids | {"model.encoder.version": np.full(1, 3.0, np.float32)}


def _m2m_100_generation(ids: Ids) -> dict[str, Any]:
    return {**_OF_MODEL, **_BART_IDS, "early_stopping": True, "max_length": 15, "num_beams": 5}


def _nllb(ids: Ids) -> dict[str, Any]:
    newer = {"decoder_layerdrop": 0, "encoder_layerdrop": 0, "tokenizer_class": "NllbTokenizer"}
    own = {key: value for key, value in _m2m_100(ids).items() if key not in ("early_stopping", "num_beams")}
    return own | newer | {"torch_dtype": "float32", "transformers_version": "4.21.0.dev0"}


def _nllb_generation(ids: Ids) -> dict[str, Any]:
    return {**_OF_MODEL, **_BART_IDS, "max_length": 15}


def _t5gemma(ids: Ids) -> dict[str, Any]:
    both = {
        **{"attention_bias": False, "attention_dropout": 0.0, "attn_logit_softcapping": 50.0, "bos_token_id": 2},
        **{"classifier_dropout_rate": 0.0, "dropout_rate": 0.0, "eos_token_id": [1, ids["turn"]], "pad_token_id": 0},
        **{"final_logit_softcapping": 30.0, "head_dim": 6, "hidden_activation": "gelu_pytorch_tanh"},
        **{"initializer_range": 0.02, "layer_types": ["sliding_attention", "full_attention"]},
        **{"max_position_embeddings": 8192, "model_type": "t5_gemma_module", "num_attention_heads": 4},
        **{"num_hidden_layers": 2, "num_key_value_heads": 2, "query_pre_attn_scalar": 6, "rms_norm_eps": 1e-06},
        **{"rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "bfloat16", "use_cache": True},
        **{"hidden_size": 24, "intermediate_size": 18, "vocab_size": ids["size"]},
    }
    return {
        **{"architectures": ["T5GemmaForConditionalGeneration"], "attention_dropout": 0.0, "bos_token_id": 2},
        **{"classifier_dropout_rate": 0.0, "dropout_rate": 0.0, "eos_token_id": [1, ids["turn"]]},
        **{"initializer_range": 0.02, "is_encoder_decoder": True, "model_type": "t5gemma", "pad_token_id": 0},
        **{"torch_dtype": "bfloat16", "transformers_version": "4.53.0.dev0", "use_cache": True},
        "decoder": both | {"cross_attention_hidden_size": 24, "is_decoder": True},
        "encoder": both,
        "vocab_size": ids["size"],
    }


def _t5gemma_generation(ids: Ids) -> dict[str, Any]:
    return {**_OF_MODEL, "bos_token_id": 2, "eos_token_id": [1, ids["turn"]], "pad_token_id": 0}


def _none(ids: Ids) -> dict[str, Any]:
    return {}


CHECKPOINTS = {
    "google-t5/t5-small": Checkpoint(tokenizers.t5, _t5_small, _t5_generation, stored=_t5_stored),
    "google/flan-t5-small": Checkpoint(
        tokenizers.t5,
        _flan_t5,
        _t5_generation,
        stored=_with_copies("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
    ),
    "Salesforce/codet5-small": Checkpoint(tokenizers.codet5, _codet5, _none),
    "google/byt5-small": Checkpoint(tokenizers.byt5, _byt5, _t5_generation),
    "google/mt5-small": Checkpoint(tokenizers.mt5, _mt5, _t5_generation),
    "google/umt5-small": Checkpoint(tokenizers.umt5, _umt5, _t5_generation),
    "facebook/bart-base": Checkpoint(tokenizers.bart_pairs, _bart_base, _none, stored=_without_prefix),
    "facebook/bart-large-cnn": Checkpoint(tokenizers.bart, _bart_large_cnn, _bart_large_cnn_generation),
    "facebook/mbart-large-cc25": Checkpoint(
        tokenizers.mbart,
        _mbart_cc25,
        _none,
        ("en_XX", "ro_RO"),
        arguments=lambda ids: {"decoder_start_token_id": ids["ro_RO"]},
    ),
    "facebook/mbart-large-en-ro": Checkpoint(
        tokenizers.mbart, _mbart_en_ro, _mbart_en_ro_generation, ("en_XX", "ro_RO")
    ),
    "facebook/mbart-large-50-many-to-many-mmt": Checkpoint(
        tokenizers.mbart_50,
        _mbart_50,
        _mbart_50_generation,
        ("en_XX", "sl_SI"),
        arguments=lambda ids: {"forced_bos_token_id": ids["sl_SI"]},
    ),
    "Helsinki-NLP/opus-mt-en-de": Checkpoint(tokenizers.marian, _marian, _marian_generation, stored=_marian_stored),
    "google/pegasus-xsum": Checkpoint(tokenizers.pegasus, _pegasus, _none, stored=_marian_stored),
    "google/pegasus-cnn_dailymail": Checkpoint(tokenizers.pegasus, _pegasus, _pegasus_generation),
    "facebook/m2m100_418M": Checkpoint(
        tokenizers.m2m_100,
        _m2m_100,
        _m2m_100_generation,
        ("en", "ro"),
        _m2m_100_stored,
        arguments=lambda ids: {"forced_bos_token_id": ids["__ro__"]},
    ),
    "facebook/nllb-200-distilled-600M": Checkpoint(
        tokenizers.nllb,
        _nllb,
        _nllb_generation,
        ("eng_Latn", "fra_Latn"),
        arguments=lambda ids: {"forced_bos_token_id": ids["fra_Latn"]},
    ),
    "google/t5gemma-2b-2b-prefixlm-it": Checkpoint(tokenizers.gemma, _t5gemma, _t5gemma_generation),
}


def publish_files(folder: Path, name: str) -> Ids:
    """Writes the files of a checkpoint except the weights."""
    checkpoint = CHECKPOINTS[name]
    ids = checkpoint.tokenizer(folder)
    files = {"config.json": checkpoint.config(ids), "generation_config.json": checkpoint.generation(ids)}
    write(folder, {name: content for name, content in files.items() if content})
    return ids


def publish(folder: Path, name: str) -> Ids:
    """Writes a checkpoint with random weights of the magnitude of trained ones."""
    import torch
    import transformers

    checkpoint, ids = CHECKPOINTS[name], publish_files(folder, name)
    torch.manual_seed(sum(map(ord, name)))
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32)
    generation = transformers.GenerationConfig.from_pretrained(folder) if checkpoint.generation(ids) else config
    starts = getattr(generation, "decoder_start_token_id", None), generation.bos_token_id
    start = next((i for i in starts if i is not None), config.pad_token_id)
    ends = generation.eos_token_id
    never = sorted({config.pad_token_id, start} - set(ends if isinstance(ends, list) else [ends]))
    never += range(ids.get("named", ids["size"]), ids["size"])  # there are more embeddings than tokens
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            if "embed_positions" not in key or config.model_type in ("bart", "mbart"):
                tensor.add_(0.5 * torch.randn_like(tensor))
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_(std=0.3)[:, never] = -1e4
        for table in (model.get_input_embeddings(), model.get_decoder().embed_tokens, model.get_output_embeddings()):
            table.weight[never] = 0.0  # makes these tokens unlikely
    tensors = {key: np.ascontiguousarray(x.numpy()) for key, x in model.state_dict().items()}
    safetensors.numpy.save_file(checkpoint.stored(tensors), folder / "model.safetensors", {"format": "pt"})
    return ids
