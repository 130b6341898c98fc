"""Families trained with fairseq and Marian, which have the same layers and tensor names.

BART (Lewis et al. 2020), mBART (Liu et al. 2020), Marian (Junczys-Dowmunt et al. 2018), Pegasus (Zhang et al. 2020),
M2M-100 (Fan et al. 2020) and NLLB (2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop.families.config_map import Family, KeyRule, Values, check_keys, read_keys, write_keys
from flaxformer_lite.interop.families.name_map import (
    MATRIX,
    ROW,
    NameMap,
    NameRule,
    attention_rules,
    dense_rules,
    norm_rules,
)

_RULES = (
    KeyRule("d_model", 1024, ("width", "decoder_width")),
    KeyRule("encoder_layers", 12, ("num_layers",)),
    KeyRule("decoder_layers", 12, ("num_decoder_layers",)),
    KeyRule("encoder_attention_heads", 16, ("num_heads", "num_key_heads")),
    KeyRule("decoder_attention_heads", 16, ("num_decoder_heads", "num_decoder_key_heads")),
    KeyRule("encoder_ffn_dim", 4096, ("mlp_width",)),
    KeyRule("decoder_ffn_dim", 4096, ("decoder_mlp_width",)),
    KeyRule("max_position_embeddings", 1024, ("position_details.longest",)),
    KeyRule("dropout", 0.1, ("dropout",)),
    KeyRule("attention_dropout", 0.0, ("attention.dropout",)),
    KeyRule("activation_dropout", 0.0, ("feed_forward.dropout",)),
    KeyRule("scale_embedding", False, ("embeddings.scale",)),
    KeyRule("encoder_layerdrop", 0.0, ("layer_dropout",)),
)
_FIXED = {
    "head_width": 0,
    "decoder_head_width": 0,
    "position_details.scale": False,
    "norms.kind": "layer",
    "norms.epsilon": 1e-5,
    "norms.final": "unless_after",
    "attention.bias": True,
    "attention.query_scalar": 0.0,
    "attention.softcap": 0.0,
    "attention.window": 0,
    "feed_forward.gated": False,
    "feed_forward.bias": True,
    "output.scale": False,
    "output.softcap": 0.0,
    "final_dropout": 0.0,
}
_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "swish": "silu", "silu": "silu"}
_SHARED, _OUTPUT = "model.shared.weight", "lm_head.weight"
_SOURCE, _TARGET = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"
_SINUSOIDS = ("embed_positions.weight", "embed_positions.weights")


class _Variant(NamedTuple):
    """What distinguishes these families.

    Attributes:
      fixed: values of ``config.model``.
      defaults: of keys that config.json lacks, where they differ from BART's.
      separate_vocabularies: whether source and target may have one each.
    """

    fixed: Mapping[str, Any]
    defaults: Mapping[str, Any]
    separate_vocabularies: bool

    def config_to_model(self, config: Mapping[str, Any], share: str) -> Values:
        config = {**self.defaults, **config}
        derived = {"vocab_size", "activation_function", "tie_word_embeddings"}
        sides = {"decoder_vocab_size", "share_encoder_decoder_embeddings"} if self.separate_vocabularies else set()
        layerdrop, layers = config.get("encoder_layerdrop", 0.0), config.get("encoder_layers", 12)
        fixed = {"decoder_layerdrop": layerdrop, "num_hidden_layers": layers}
        check_keys(config, {rule.published for rule in _RULES} | derived | sides, fixed)
        activation = config.get("activation_function", "gelu")
        if activation not in _ACTIVATIONS:
            supported = ", ".join(_ACTIVATIONS)
            raise InputError("config.json", f"activation_function={activation!r} is not supported; {supported} are")
        values = {**_FIXED, **self.fixed, **read_keys(_RULES, config)}
        if values["positions"] == "fairseq":  # positions start after the padding id
            values["position_details.offset"] = config["pad_token_id"] + 1
        return {**values, "feed_forward.activation": _ACTIVATIONS[activation], "share_embeddings": share}

    def model_to_config(self, model: Values) -> Values:
        activation = next(name for name, own in _ACTIVATIONS.items() if own == model["feed_forward.activation"])
        share = model["share_embeddings"]
        if share == "target" and not self.separate_vocabularies:
            raise InputError("config.model.share_embeddings='target'", "this family shares all embeddings or none")
        values = {
            **write_keys(_RULES, model),
            "decoder_layerdrop": model["layer_dropout"],
            "activation_function": activation,
            "tie_word_embeddings": share in ("all", "target"),
        }
        if self.separate_vocabularies:
            values["share_encoder_decoder_embeddings"] = share in ("all", "inputs")
        if model["positions"] == "fairseq":
            values["pad_token_id"] = model["position_details.offset"] - 1
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
    ends = ("version",) if model.positions == "learned" else ("version", *_SINUSOIDS)
    unused = [f"model.{side}.{end}" for side in ("encoder", "decoder") for end in ends]
    return NameMap(tuple(rules), aliases, (*unused,) if copies else (*unused, _SHARED))


def _family(norm: str, positions: str, fixed: Mapping[str, Any], defaults: Mapping[str, Any]) -> Family:
    offset = 2 if positions in ("learned", "fairseq") else 0
    common = {"norm": norm, "positions": positions, "position_details.offset": offset, "norms.embeddings": False}
    fixed = {**common, "output.bias": "always", **fixed}
    variant = _Variant(fixed, defaults, "share_encoder_decoder_embeddings" in defaults)
    tables = (_SOURCE, _SHARED), (_TARGET, _SHARED), (_OUTPUT, _TARGET, _SHARED)
    return Family(variant.config_to_model, variant.model_to_config, _name_map, tables, variant.vocab_sizes)


BART = _family("after", "learned", {"norms.embeddings": True}, {"vocab_size": 50265})
MBART = _family("before", "learned", {"norms.embeddings": True}, {"vocab_size": 50265})
MARIAN = _family("after", "halves", {}, {"vocab_size": 58101, "share_encoder_decoder_embeddings": True})
PEGASUS = _family("before", "halves", {}, {"vocab_size": 50265})
M2M_100 = _family(
    norm="before",
    positions="fairseq",
    fixed={"output.bias": "never"},
    defaults={
        "vocab_size": 128112,
        "pad_token_id": 1,
        "encoder_layerdrop": 0.05,
        "decoder_layerdrop": 0.05,
        "activation_function": "relu",
        "attention_dropout": 0.1,
        "scale_embedding": True,
    },
)
