"""Families trained with fairseq and Marian, which have the same layers and tensor names.

BART (Lewis et al. 2020), mBART (Liu et al. 2020), Marian (Junczys-Dowmunt et al. 2018), Pegasus (Zhang et al. 2020),
M2M-100 (Fan et al. 2020) and NLLB (2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flaxformer_lite.config.model_dataclasses import ModelConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop.families.config_map import (
    Family,
    KeyRule,
    Values,
    check_keys,
    join_stacks,
    read_choice,
    read_keys,
    split_stacks,
    write_choice,
    write_keys,
)
from flaxformer_lite.interop.families.name_map import (
    MATRIX,
    ROW,
    NameMap,
    NameRule,
    attention_rules,
    dense_rules,
    norm_rules,
)

_STACK_RULES = (
    KeyRule("d_model", 1024, ("width",)),
    KeyRule("max_position_embeddings", 1024, ("positions.max_length",)),
    KeyRule("dropout", 0.1, ("dropout",)),
    KeyRule("attention_dropout", 0.0, ("attention.dropout",)),
    KeyRule("activation_dropout", 0.0, ("feed_forward.dropout",)),
)
_ENCODER_RULES, _DECODER_RULES = (
    (
        KeyRule(f"{side}_layers", 12, ("num_layers",)),
        KeyRule(f"{side}_attention_heads", 16, ("num_heads", "num_kv_heads")),
        KeyRule(f"{side}_ffn_dim", 4096, ("mlp_dim",)),
        KeyRule(f"{side}_layerdrop", 0.0, ("layerdrop",)),
    )
    for side in ("encoder", "decoder")
)
_MODEL_RULES = (KeyRule("scale_embedding", False, ("scale_embeddings",)),)
_CONVERTED = {rule.published for rule in (*_STACK_RULES, *_ENCODER_RULES, *_DECODER_RULES, *_MODEL_RULES)}
_STACK = {
    "kind": "transformer",
    "head_dim": 0,
    "final_dropout": 0.0,
    "positions.scale": False,
    "norm.kind": "layer",
    "norm.epsilon": 1e-5,
    "norm.final": "unless_post",
    "attention.bias": True,
    "attention.query_pre_attn_scalar": 0.0,
    "attention.soft_cap": 0.0,
    "attention.sliding_window": 0,
    "feed_forward.gated": False,
    "feed_forward.bias": True,
}
_MODEL = {"lm_head.scale": False, "lm_head.soft_cap": 0.0}
_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "swish": "silu", "silu": "silu"}
_SHARED, _OUTPUT = "model.shared.weight", "lm_head.weight"
_SOURCE, _TARGET = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"
_SINUSOIDS = ("embed_positions.weight", "embed_positions.weights")


class _Variant(NamedTuple):
    """What distinguishes these families.

    Attributes:
      stack: values of both stacks.
      lm_head_bias: the value of ``config.model.lm_head.bias``.
      defaults: of keys that config.json lacks, where they differ from BART's.
      separate_vocabularies: whether source and target may have one each.
    """

    stack: Mapping[str, Any]
    lm_head_bias: str
    defaults: Mapping[str, Any]
    separate_vocabularies: bool

    def config_to_model(self, config: Mapping[str, Any], share: str) -> Values:
        config = {**self.defaults, **config}
        derived = {"vocab_size", "activation_function", "tie_word_embeddings"}
        sides = {"decoder_vocab_size", "share_encoder_decoder_embeddings"} if self.separate_vocabularies else set()
        check_keys(config, _CONVERTED | derived | sides, {"num_hidden_layers": config.get("encoder_layers", 12)})
        activation = read_choice("activation_function", config.get("activation_function", "gelu"), _ACTIVATIONS)
        stack = {**_STACK, **self.stack, **read_keys(_STACK_RULES, config), "feed_forward.activation": activation}
        if stack["positions.kind"] == "sinusoidal_fairseq":  # positions start after the padding id
            stack["positions.offset"] = config["pad_token_id"] + 1
        encoder, decoder = (stack | read_keys(rules, config) for rules in (_ENCODER_RULES, _DECODER_RULES))
        model = {**_MODEL, **read_keys(_MODEL_RULES, config), "lm_head.bias": self.lm_head_bias}
        return join_stacks(encoder, decoder) | model | {"share_embeddings": share}

    def model_to_config(self, model: Values) -> Values:
        (encoder, decoder), share = split_stacks(model), model["share_embeddings"]
        if share == "target" and not self.separate_vocabularies:
            raise InputError("config.model.share_embeddings='target'", "this family shares all embeddings or none")
        values = {
            **write_keys(_MODEL_RULES, model),
            **write_keys(_STACK_RULES, encoder),
            **write_keys(_ENCODER_RULES, encoder),
            **write_keys(_DECODER_RULES, decoder),
            "activation_function": write_choice(encoder["feed_forward.activation"], _ACTIVATIONS),
            "tie_word_embeddings": share in ("all", "target"),
        }
        if self.separate_vocabularies:
            values["share_encoder_decoder_embeddings"] = share in ("all", "inputs")
        if encoder["positions.kind"] == "sinusoidal_fairseq":
            values["pad_token_id"] = encoder["positions.offset"] - 1
        return values

    def vocab_sizes(self, config: Mapping[str, Any]) -> tuple[int, int]:
        config = {**self.defaults, **config}
        size = config["vocab_size"]
        shared = config.get("share_encoder_decoder_embeddings", True)
        return size, size if shared else config.get("decoder_vocab_size") or size


def _name_map(model: ModelConfig) -> NameMap:
    share = model.share_embeddings
    rules = [
        NameRule(_SHARED if share in ("all", "inputs") else _TARGET, "target_embedding/table"),
        NameRule(_SOURCE, "source_embedding/table"),
        NameRule(_OUTPUT, "output/kernel", MATRIX),
        NameRule("final_logits_bias", "output/bias", ROW),
    ]
    for side in ("encoder", "decoder"):
        tensor, param = f"model.{side}.layers.{{}}.", f"{side}/layers_{{}}/"
        for sublayer, name in (("self_attention", "self_attn"), ("cross_attention", "encoder_attn")):
            rules += norm_rules(f"{tensor}{name}_layer_norm", f"{param}{sublayer}_residual/norm")
            projections = [f"{tensor}{name}.{part}_proj" for part in ("q", "k", "v", "out")]
            rules += attention_rules(projections, f"{param}{sublayer}")
        rules += norm_rules(f"{tensor}final_layer_norm", f"{param}feed_forward_residual/norm")
        rules += dense_rules(f"{tensor}fc1", f"{param}feed_forward/up")
        rules += dense_rules(f"{tensor}fc2", f"{param}feed_forward/down")
        rules += norm_rules(f"model.{side}.layernorm_embedding", f"{side}/norm_embeddings")
        rules += norm_rules(f"model.{side}.layer_norm", f"{side}/norm")
        rules.append(NameRule(f"model.{side}.embed_positions.weight", f"{side}/positions/vectors/table"))
    copies = {"all": (_SOURCE, _TARGET, _OUTPUT), "inputs": (_SOURCE, _TARGET)}.get(share, ())
    aliases = {_SHARED: copies, _TARGET: (_OUTPUT,) if share == "target" else ()}
    # Sinusoidal positions are computed, early files have a version, and shared embeddings are unused where each side
    # has its own.
    ends = ("version",) if model.encoder.positions.kind == "learned" else ("version", *_SINUSOIDS)
    unused = [f"model.{side}.{end}" for side in ("encoder", "decoder") for end in ends]
    return NameMap(tuple(rules), aliases, (*unused,) if copies else (*unused, _SHARED))


def _family(
    placement: str,
    positions: str,
    defaults: Mapping[str, Any],
    norm_embeddings: bool = False,
    lm_head_bias: str = "always",
) -> Family:
    stack = {
        "norm.placement": placement,
        "norm.embeddings": norm_embeddings,
        "positions.kind": positions,
        "positions.offset": 0 if positions == "sinusoidal_concat" else 2,
    }
    variant = _Variant(stack, lm_head_bias, defaults, "share_encoder_decoder_embeddings" in defaults)
    tables = (_SOURCE, _SHARED), (_TARGET, _SHARED), (_OUTPUT, _TARGET, _SHARED)
    return Family(variant.config_to_model, variant.model_to_config, _name_map, tables, variant.vocab_sizes)


BART = _family("post", "learned", {"vocab_size": 50265}, norm_embeddings=True)
MBART = _family("pre", "learned", {"vocab_size": 50265}, norm_embeddings=True)
MARIAN = _family("post", "sinusoidal_concat", {"vocab_size": 58101, "share_encoder_decoder_embeddings": True})
PEGASUS = _family("pre", "sinusoidal_concat", {"vocab_size": 50265})
_M2M_100_DEFAULTS = {
    "vocab_size": 128112,
    "pad_token_id": 1,
    "encoder_layerdrop": 0.05,
    "decoder_layerdrop": 0.05,
    "activation_function": "relu",
    "attention_dropout": 0.1,
    "scale_embedding": True,
}
M2M_100 = _family("pre", "sinusoidal_fairseq", _M2M_100_DEFAULTS, lm_head_bias="never")
