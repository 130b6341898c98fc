"""T5Gemma (Zhang et al. 2025), whose config.json has one object per stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from flaxformer_lite.interop.families.name_map import MATRIX, NameMap, NameRule, attention_rules

_SIDES = ("encoder", "decoder")
_STACK_RULES = (
    KeyRule("hidden_size", 2304, ("width",)),
    KeyRule("intermediate_size", 9216, ("mlp_dim",)),
    KeyRule("num_hidden_layers", 26, ("num_layers",)),
    KeyRule("num_attention_heads", 8, ("num_heads",)),
    KeyRule("num_key_value_heads", 4, ("num_kv_heads",)),
    KeyRule("head_dim", 256, ("head_dim",)),
    KeyRule("rms_norm_eps", 1e-6, ("norm.epsilon",)),
    KeyRule("attention_bias", False, ("attention.bias",)),
    KeyRule("query_pre_attn_scalar", 256, ("attention.query_pre_attn_scalar",)),
)
# The reference copies these from the top level to both stacks.
_DROPOUT_RULES = (
    KeyRule("dropout_rate", 0.0, ("dropout", "feed_forward.dropout", "final_dropout")),
    KeyRule("attention_dropout", 0.0, ("attention.dropout",)),
)
_STACK = {
    "kind": "transformer",
    "layerdrop": 0.0,
    "positions.kind": "rotary",
    "norm.placement": "sandwich",
    "norm.kind": "rms",
    "norm.unit_offset": True,
    "norm.embeddings": False,
    "norm.final": "unless_post",
    "feed_forward.gated": True,
    "feed_forward.bias": False,
}
_MODEL = {"scale_embeddings": True, "lm_head.bias": "never", "lm_head.scale": False}
_ACTIVATIONS = {
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
}
_LAYER_TYPES = {"sliding_attention": "local", "full_attention": "global"}
_UNUSED = {"tie_word_embeddings", "max_position_embeddings", "hidden_act"}  # without effect on what is computed
_CONVERTED = {rule.published for rule in (*_STACK_RULES, *_DROPOUT_RULES)} | {
    *("hidden_activation", "rope_parameters", "rope_theta", "sliding_window", "layer_types", "vocab_size"),
    *("attn_logit_softcapping", "final_logit_softcapping"),
}
_SOURCE, _TARGET = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"
_OUTPUT = "lm_head.out_proj.weight"


def _config_to_model(config: Mapping[str, Any], share: str) -> Values:
    check_keys(config, {*_SIDES, "vocab_size", *_UNUSED, *(rule.published for rule in _DROPOUT_RULES)}, {})
    dropout = read_keys(_DROPOUT_RULES, config)
    encoder, decoder = (_read_stack(config.get(side) or {}) | dropout for side in _SIDES)
    soft_cap = (config.get("decoder") or {}).get("final_logit_softcapping", 30.0) or 0.0
    return join_stacks(encoder, decoder) | _MODEL | {"lm_head.soft_cap": soft_cap, "share_embeddings": share}


def _read_stack(config: Mapping[str, Any]) -> Values:
    check_keys(config, _CONVERTED | _UNUSED, {})
    activation = read_choice("hidden_activation", config.get("hidden_activation", "gelu_pytorch_tanh"), _ACTIVATIONS)
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or not rope.keys() <= {"rope_type", "rope_theta"}:
        supported = "rope_type='default' with a rope_theta is"
        raise InputError("config.json", f"rope_parameters={rope!r} is not supported; {supported}")
    pattern = _layer_pattern(config)
    return {
        **_STACK,
        **read_keys(_STACK_RULES, config),
        "positions.theta": rope.get("rope_theta", config.get("rope_theta", 10_000.0)),
        "attention.soft_cap": config.get("attn_logit_softcapping", 50.0) or 0.0,
        "attention.layer_pattern": pattern,
        "attention.sliding_window": (config.get("sliding_window", 4096) or 0) if "local" in pattern else 0,
        "feed_forward.activation": activation,
    }


def _layer_pattern(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The shortest sequence of layer types whose repetition gives those of all layers."""
    default = [("sliding_attention", "full_attention")[i % 2] for i in range(config.get("num_hidden_layers", 26))]
    kinds = tuple(read_choice("layer_types", name, _LAYER_TYPES) for name in config.get("layer_types") or default)
    return next(kinds[:n] for n in range(1, len(kinds) + 1) if (kinds[:n] * len(kinds))[: len(kinds)] == kinds)


def _model_to_config(model: Values) -> Values:
    if model["share_embeddings"] not in ("target", "none"):
        raise InputError(
            f"config.model.share_embeddings={model['share_embeddings']!r}",
            "in this family source and target have separate embeddings",
            "use 'target' or 'none'",
        )
    stacks = dict(zip(_SIDES, split_stacks(model), strict=True))
    values = {side: _write_stack(stack, model["lm_head.soft_cap"]) for side, stack in stacks.items()}
    dropout = write_keys(_DROPOUT_RULES, stacks["encoder"])
    return values | dropout | {"tie_word_embeddings": model["share_embeddings"] == "target"}


def _write_stack(stack: Values, final_soft_cap: float) -> Values:
    scalar, pattern = stack["attention.query_pre_attn_scalar"], stack["attention.layer_pattern"]
    if scalar != int(scalar):
        raise InputError(f"attention.query_pre_attn_scalar={scalar}", "must be an integer in this family")
    layers = (pattern[i % len(pattern)] for i in range(stack["num_layers"]))
    return {
        **write_keys(_STACK_RULES, stack),
        **write_keys(_DROPOUT_RULES, stack),
        "query_pre_attn_scalar": int(scalar),
        "attn_logit_softcapping": stack["attention.soft_cap"] or None,
        "final_logit_softcapping": final_soft_cap or None,
        "sliding_window": stack["attention.sliding_window"] or 4096,  # required even if no layer uses it
        "layer_types": [write_choice(kind, _LAYER_TYPES) for kind in layers],
        "hidden_activation": write_choice(stack["feed_forward.activation"], _ACTIVATIONS),
        "rope_parameters": {"rope_type": "default", "rope_theta": stack["positions.theta"]},
    }


def _name_map(model: ModelConfig) -> NameMap:
    rules = [
        NameRule(_TARGET, "target_embedding/table"),
        NameRule(_SOURCE, "source_embedding/table"),
        NameRule(_OUTPUT, "output/kernel", MATRIX),
    ]
    for side in _SIDES:
        tensor, param = f"model.{side}.layers.{{}}.", f"{side}/layers_{{}}/"
        for sublayer, attention in (("self_attention", "self_attn"), ("cross_attention", "cross_attn")):
            projections = [f"{tensor}{attention}.{name}_proj" for name in ("q", "k", "v", "o")]
            rules += attention_rules(projections, f"{param}{sublayer}")
            rules += _sandwich_rules(tensor, f"{attention}_layernorm", f"{param}{sublayer}")
        rules += _sandwich_rules(tensor, "feedforward_layernorm", f"{param}feed_forward")
        for part in ("gate", "up", "down"):
            rules.append(NameRule(f"{tensor}mlp.{part}_proj.weight", f"{param}feed_forward/{part}/kernel", MATRIX))
        rules.append(NameRule(f"model.{side}.norm.weight", f"{side}/norm/scale"))
    return NameMap(tuple(rules), {_TARGET: (_OUTPUT,) if model.share_embeddings == "target" else ()})


def _sandwich_rules(layer: str, norm: str, param: str) -> list[NameRule]:
    """The norms before and after a sublayer."""
    names = (("pre", "norm"), ("post", "norm_within"))
    return [NameRule(f"{layer}{place}_{norm}.weight", f"{param}_residual/{name}/scale") for place, name in names]


def _vocab_sizes(config: Mapping[str, Any]) -> tuple[int, int]:
    encoder, decoder = ((config.get(side) or {}).get("vocab_size", 256_000) for side in _SIDES)
    return encoder, decoder


T5GEMMA = Family(
    _config_to_model, _model_to_config, _name_map, ((_SOURCE,), (_TARGET,), (_OUTPUT, _TARGET)), _vocab_sizes
)
