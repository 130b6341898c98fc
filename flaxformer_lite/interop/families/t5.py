"""T5 (Raffel et al. 2020), its 1.1, mT5 (Xue et al. 2021), ByT5 (Xue et al. 2022) and UMT5 (Chung et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flaxformer_lite.config.model_dataclasses import ModelConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop.families.config_map import (
    Family,
    KeyRule,
    Values,
    check_keys,
    join_stacks,
    read_keys,
    split_stacks,
    write_choice,
    write_keys,
)
from flaxformer_lite.interop.families.name_map import MATRIX, NameMap, NameRule, attention_rules

_STACK_RULES = (
    KeyRule("d_model", 512, ("width",)),
    KeyRule("d_kv", 64, ("head_dim",)),
    KeyRule("d_ff", 2048, ("mlp_dim",)),
    KeyRule("num_heads", 8, ("num_heads", "num_kv_heads")),
    KeyRule("relative_attention_num_buckets", 32, ("positions.num_buckets",)),
    KeyRule("relative_attention_max_distance", 128, ("positions.max_distance",)),
    KeyRule("layer_norm_epsilon", 1e-6, ("norm.epsilon",)),
    KeyRule("dropout_rate", 0.1, ("dropout", "attention.dropout", "feed_forward.dropout", "final_dropout")),
)
_ENCODER_RULES = (KeyRule("num_layers", 6, ("num_layers",)),)
_STACK = {
    "kind": "transformer",
    "layerdrop": 0.0,
    "positions.kind": "relative_bias",
    "norm.placement": "pre",
    "norm.kind": "rms",
    "norm.unit_offset": False,
    "norm.embeddings": False,
    "norm.final": "unless_post",
    "attention.bias": False,
    "attention.query_pre_attn_scalar": 1.0,
    "attention.soft_cap": 0.0,
    "attention.sliding_window": 0,
    "feed_forward.bias": False,
}
_MODEL = {"scale_embeddings": False, "lm_head.bias": "never", "lm_head.soft_cap": 0.0}
_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "silu": "silu"}
_SHARED, _OUTPUT = "shared.weight", "lm_head.weight"
_SOURCE, _TARGET = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
_SUBLAYERS = {
    "encoder": {"self_attention": "0.SelfAttention", "feed_forward": "1.DenseReluDense"},
    "decoder": {
        "self_attention": "0.SelfAttention",
        "cross_attention": "1.EncDecAttention",
        "feed_forward": "2.DenseReluDense",
    },
}


class _Variant(NamedTuple):
    """What distinguishes these families.

    Attributes:
      per_layer: whether each layer has its own relative position bias.
      scales_logits: whether logits are scaled, by a config.json.
      defaults: of keys that config.json lacks, where they differ from T5's.
    """

    per_layer: bool
    scales_logits: Callable[[Mapping[str, Any]], bool]
    defaults: Mapping[str, Any]

    def config_to_model(self, config: Mapping[str, Any], share: str) -> Values:
        config = {**self.defaults, **config}
        known = {rule.published for rule in (*_STACK_RULES, *_ENCODER_RULES)}
        derived = {"tie_word_embeddings", "scale_decoder_outputs", "dense_act_fn", "is_gated_act", "feed_forward_proj"}
        layers = config.get("num_layers", 6)
        check_keys(config, known | derived | {"num_decoder_layers", "vocab_size"}, {"num_hidden_layers": layers})
        gated, activation = _feed_forward(config)
        stack = {
            **_STACK,
            **read_keys(_STACK_RULES, config),
            "positions.per_layer": self.per_layer,
            "feed_forward.activation": activation,
            "feed_forward.gated": gated,
        }
        encoder = stack | read_keys(_ENCODER_RULES, config)
        decoder = stack | {"num_layers": config.get("num_decoder_layers") or layers}
        model = _MODEL | {"share_embeddings": share, "lm_head.scale": self.scales_logits(config)}
        return join_stacks(encoder, decoder) | model

    def vocab_sizes(self, config: Mapping[str, Any]) -> tuple[int, int]:
        return (config.get("vocab_size", self.defaults.get("vocab_size", 32128)),) * 2


def _feed_forward(config: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether it is gated, and its activation: by separate keys, otherwise by ``feed_forward_proj``."""
    projection = config.get("feed_forward_proj", "relu")
    gate, _, name = projection.rpartition("-")
    name = "gelu_new" if projection == "gated-gelu" else name  # T5 1.1 uses the approximation despite the name
    activation = config.get("dense_act_fn", name)
    if gate not in ("", "gated") or activation not in _ACTIVATIONS:
        raise InputError(
            "config.json",
            f"feed_forward_proj={projection!r} with dense_act_fn={activation!r} is not supported; "
            f"{', '.join(_ACTIVATIONS)} are, alone or after 'gated-'",
        )
    return config.get("is_gated_act", gate == "gated"), _ACTIVATIONS[activation]


def _model_to_config(model: Values) -> Values:
    encoder, decoder = split_stacks(model)
    activation, gated = write_choice(encoder["feed_forward.activation"], _ACTIVATIONS), encoder["feed_forward.gated"]
    return {
        **write_keys(_STACK_RULES, encoder),
        **write_keys(_ENCODER_RULES, encoder),
        "num_decoder_layers": decoder["num_layers"],
        "feed_forward_proj": f"gated-{activation.removesuffix('_new')}" if gated else activation,
        "dense_act_fn": activation,
        "is_gated_act": gated,
        "tie_word_embeddings": model["lm_head.scale"],
    }


def _name_map(model: ModelConfig) -> NameMap:
    share = model.share_embeddings
    rules = [
        NameRule(_SHARED if share in ("all", "inputs") else _TARGET, "target_embedding/table"),
        NameRule(_SOURCE, "source_embedding/table"),
        NameRule(_OUTPUT, "output/kernel", MATRIX),
    ]
    up = {"wi_0": "gate", "wi_1": "up"} if model.encoder.feed_forward.gated else {"wi": "up"}
    for side, sublayers in _SUBLAYERS.items():
        tensor, param = f"{side}.block.{{}}.layer.", f"{side}/layers_{{}}/"
        for sublayer, name in sublayers.items():
            rules.append(NameRule(f"{tensor}{name[0]}.layer_norm.weight", f"{param}{sublayer}_residual/norm/scale"))
            if sublayer == "feed_forward":
                for kernel, part in (up | {"wo": "down"}).items():
                    rules.append(
                        NameRule(f"{tensor}{name}.{kernel}.weight", f"{param}{sublayer}/{part}/kernel", MATRIX)
                    )
            else:
                rules += attention_rules([f"{tensor}{name}.{end}" for end in "qkvo"], f"{param}{sublayer}")
        bias = "layer.0.SelfAttention.relative_attention_bias.weight"
        rules.append(NameRule(f"{side}.block.0.{bias}", f"{side}/positions/table"))
        rules.append(NameRule(f"{side}.block.{{}}.{bias}", f"{side}/layers_{{}}/positions/table"))
        rules.append(NameRule(f"{side}.final_layer_norm.weight", f"{side}/norm/scale"))
    copies = {"all": (_SOURCE, _TARGET, _OUTPUT), "inputs": (_SOURCE, _TARGET)}.get(share, ())
    aliases = {_SHARED: copies, _TARGET: (_OUTPUT,) if share == "target" else ()}
    # Early checkpoints have a relative bias of cross-attention, which nothing uses.
    return NameMap(tuple(rules), aliases, ("decoder.block.{}.layer.1.EncDecAttention.relative_attention_bias.weight",))


def _t5_scales_logits(config: Mapping[str, Any]) -> bool:
    """T5 1.1 does not scale them, which its config.json expresses by untied embeddings; newer files have a key."""
    return config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))


def _family(variant: _Variant) -> Family:
    tables = (_SOURCE, _SHARED), (_TARGET, _SHARED), (_OUTPUT, _TARGET, _SHARED)
    return Family(variant.config_to_model, _model_to_config, _name_map, tables, variant.vocab_sizes)


_MT5_DEFAULTS = {"vocab_size": 250112, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu"}
T5 = _family(_Variant(False, _t5_scales_logits, {}))
MT5 = _family(_Variant(False, lambda config: False, _MT5_DEFAULTS))
UMT5 = _family(_Variant(True, _t5_scales_logits, _MT5_DEFAULTS))
