"""T5 (Raffel et al. 2020), its 1.1, mT5 (Xue et al. 2021), ByT5 (Xue et al. 2022) and UMT5 (Chung et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop.families.config_map import Family, KeyRule, Values, check_keys, read_keys, write_keys
from flaxformer_lite.interop.families.name_map import MATRIX, NameMap, NameRule, attention_rules

_RULES = (
    KeyRule("d_model", 512, ("width", "decoder_width")),
    KeyRule("d_kv", 64, ("head_width", "decoder_head_width")),
    KeyRule("d_ff", 2048, ("mlp_width", "decoder_mlp_width")),
    KeyRule("num_layers", 6, ("num_layers",)),
    KeyRule("num_heads", 8, ("num_heads", "num_key_heads", "num_decoder_heads", "num_decoder_key_heads")),
    KeyRule("relative_attention_num_buckets", 32, ("position_details.buckets",)),
    KeyRule("relative_attention_max_distance", 128, ("position_details.max_distance",)),
    KeyRule("layer_norm_epsilon", 1e-6, ("norms.epsilon",)),
    KeyRule("dropout_rate", 0.1, ("dropout", "attention.dropout", "feed_forward.dropout", "final_dropout")),
)
_FIXED = {
    "norm": "before",
    "norms.kind": "rms",
    "norms.embeddings": False,
    "norms.final": "unless_after",
    "attention.bias": False,
    "attention.query_scalar": 1.0,
    "attention.softcap": 0.0,
    "attention.window": 0,
    "feed_forward.bias": False,
    "embeddings.scale": False,
    "output.bias": "never",
    "output.softcap": 0.0,
    "layer_dropout": 0.0,
}
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
      positions: the value of ``config.model.positions``.
      scales_logits: whether logits are scaled, by a config.json.
      defaults: of keys that config.json lacks, where they differ from T5's.
    """

    positions: str
    scales_logits: Callable[[Mapping[str, Any]], bool]
    defaults: Mapping[str, Any]

    def config_to_model(self, config: Mapping[str, Any], share: str) -> Values:
        config = {**self.defaults, **config}
        known = {rule.published for rule in _RULES} | {"num_decoder_layers", "feed_forward_proj", "vocab_size"}
        derived = {"tie_word_embeddings", "scale_decoder_outputs", "dense_act_fn", "is_gated_act"}
        layers = config.get("num_layers", 6)
        check_keys(config, known | derived, {"num_hidden_layers": layers})
        gated, activation = _feed_forward(config)
        return {
            **_FIXED,
            **read_keys(_RULES, config),
            "num_decoder_layers": config.get("num_decoder_layers") or layers,
            "positions": self.positions,
            "feed_forward.activation": activation,
            "feed_forward.gated": gated,
            "share_embeddings": share,
            "output.scale": self.scales_logits(config),
        }

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
    (activation,) = (name for name, own in _ACTIVATIONS.items() if own == model["feed_forward.activation"])
    gated = model["feed_forward.gated"]
    return {
        **write_keys(_RULES, model),
        "num_decoder_layers": model["num_decoder_layers"],
        "feed_forward_proj": f"gated-{activation.removesuffix('_new')}" if gated else activation,
        "dense_act_fn": activation,
        "is_gated_act": gated,
        "tie_word_embeddings": model["output.scale"],
    }


def _name_map(model: ModelConfig) -> NameMap:
    share = model.share_embeddings
    rules = [
        NameRule(_SHARED if share in ("all", "inputs") else _TARGET, "target_embedding/table"),
        NameRule(_SOURCE, "source_embedding/table"),
        NameRule(_OUTPUT, "output/kernel", MATRIX),
    ]
    up = {"wi_0": "gate", "wi_1": "up"} if model.feed_forward.gated else {"wi": "up"}
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
T5 = _family(_Variant("relative", _t5_scales_logits, {}))
MT5 = _family(_Variant("relative", lambda config: False, _MT5_DEFAULTS))
UMT5 = _family(_Variant("relative_per_layer", _t5_scales_logits, _MT5_DEFAULTS))
