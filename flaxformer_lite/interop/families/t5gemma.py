"""T5Gemma (Zhang et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop.families.config_map import Family, KeyRule, Values, check_keys, read_keys, write_keys
from flaxformer_lite.interop.families.name_map import MATRIX, NameMap, NameRule, attention_rules

_SIZES = {  # of one side, which differ; what of ours is the encoder's and what the decoder's
    "encoder": (
        KeyRule("hidden_size", 2304, ("width",)),
        KeyRule("intermediate_size", 9216, ("mlp_width",)),
        KeyRule("num_hidden_layers", 26, ("num_layers",)),
        KeyRule("num_attention_heads", 8, ("num_heads",)),
        KeyRule("num_key_value_heads", 4, ("num_key_heads",)),
        KeyRule("head_dim", 256, ("head_width",)),
    ),
    "decoder": (
        KeyRule("hidden_size", 2304, ("decoder_width",)),
        KeyRule("intermediate_size", 9216, ("decoder_mlp_width",)),
        KeyRule("num_hidden_layers", 26, ("num_decoder_layers",)),
        KeyRule("num_attention_heads", 8, ("num_decoder_heads",)),
        KeyRule("num_key_value_heads", 4, ("num_decoder_key_heads",)),
        KeyRule("head_dim", 256, ("decoder_head_width",)),
    ),
}
_BOTH_SIDES = (  # of each side, and the same on both
    KeyRule("rms_norm_eps", 1e-6, ("norms.epsilon",)),
    KeyRule("attention_bias", False, ("attention.bias",)),
    KeyRule("query_pre_attn_scalar", 256, ("attention.query_scalar",)),
)
_MODEL = (
    KeyRule("dropout_rate", 0.0, ("dropout", "feed_forward.dropout", "final_dropout")),
    KeyRule("attention_dropout", 0.0, ("attention.dropout",)),
)
_FIXED = {
    "positions": "rotary",
    "norm": "around",
    "norms.kind": "rms_from_one",
    "norms.embeddings": False,
    "norms.final": "unless_after",
    "feed_forward.gated": True,
    "feed_forward.bias": False,
    "embeddings.scale": True,
    "output.bias": "never",
    "output.scale": False,
    "layer_dropout": 0.0,
}
_ACTIVATIONS = {
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
}
_DERIVED = {"tie_word_embeddings", "max_position_embeddings", "hidden_act"}  # that nothing depends on
_KINDS = {"sliding_attention": "window", "full_attention": "full"}
_TABLES = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.out_proj.weight"


def _config_to_model(config: Mapping[str, Any], share: str) -> Values:
    """Of a config.json."""
    check_keys(config, {*_SIZES, "vocab_size", *_DERIVED, *(rule.published for rule in _MODEL)}, {})
    sides = [config.get(side) or {} for side in _SIZES]
    encoder, decoder = (_of_side(given, sizes) for given, sizes in zip(sides, _SIZES.values(), strict=True))
    wrong = [f"{key}: {encoder[key]!r} and {decoder[key]!r}" for key in encoder if encoder[key] != decoder.get(key)]
    if wrong:
        raise InputError(f"config.json: encoder and decoder must agree in what becomes of {', '.join(wrong)}")
    values = [read_keys(sizes, given) for given, sizes in zip(sides, _SIZES.values(), strict=True)]
    return {
        **_FIXED,
        **values[0],
        **values[1],
        **decoder,
        **read_keys(_MODEL, config),
        "output.softcap": sides[1].get("final_logit_softcapping", 30.0) or 0.0,
        "attention.pattern": (pattern := _pattern([_kinds(side) for side in sides])),
        "attention.window": decoder["attention.window"] if "window" in pattern else 0,
        "share_embeddings": share,
    }


def _of_side(given: Mapping[str, Any], sizes: Sequence[KeyRule]) -> Values:
    """What is the same on both sides, of one of them."""
    taken = {rule.published for rule in (*sizes, *_BOTH_SIDES, *_MODEL)}
    apart = {"hidden_activation", "rope_parameters", "rope_theta", "sliding_window", "layer_types", "vocab_size"}
    check_keys(given, taken | apart | {"attn_logit_softcapping", "final_logit_softcapping"} | _DERIVED, {})
    activation = given.get("hidden_activation", "gelu_pytorch_tanh")
    if activation not in _ACTIVATIONS:
        raise InputError(
            f"config.json: hidden_activation={activation!r} is not supported; {', '.join(_ACTIVATIONS)} are"
        )
    rope = given.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or not rope.keys() <= {"rope_type", "rope_theta"}:
        raise InputError(
            f"config.json: rope_parameters={rope!r} is not supported; rope_type='default' with a rope_theta is"
        )
    return {
        **read_keys(_BOTH_SIDES, given),
        "attention.softcap": given.get("attn_logit_softcapping", 50.0) or 0.0,
        "attention.window": given.get("sliding_window", 4096) or 0,
        "feed_forward.activation": _ACTIVATIONS[activation],
        "position_details.theta": rope.get("rope_theta", given.get("rope_theta", 10_000.0)),
    }


def _kinds(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Of each layer of a side."""
    if layers := given.get("layer_types"):
        if unknown := sorted(set(layers) - _KINDS.keys()):
            raise InputError(f"config.json: layer_types={unknown} is not supported; {', '.join(_KINDS)} are")
        return tuple(_KINDS[kind] for kind in layers)
    return tuple(("window", "full")[number % 2] for number in range(given.get("num_hidden_layers", 26)))


def _pattern(sides: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The shortest that is all layers of all sides when it is said over and over."""
    longest = max(sides, key=len)
    for length in range(1, len(longest) + 1):
        pattern = longest[:length]
        if all((pattern * len(side))[: len(side)] == side for side in sides):
            return pattern
    raise InputError(f"config.json: layer_types must be one pattern for encoder and decoder, got {sides}")


def _model_to_config(model: Values) -> Values:
    """A config.json, but for vocabularies."""
    activation = next(tensor for tensor, ours in _ACTIVATIONS.items() if ours == model["feed_forward.activation"])
    if model["share_embeddings"] not in ("target", "none"):
        raise InputError(
            f"config.model.share_embeddings={model['share_embeddings']!r}: in a model of this family source and target "
            f"have word vectors of their own ('target' or 'none')"
        )
    scalar = model["attention.query_scalar"]
    if scalar != int(scalar):
        raise InputError(
            f"config.model.attention.query_scalar={scalar}: in a model of this family it is a whole number"
        )
    names = {ours: tensor for tensor, ours in _KINDS.items()}
    values: Values = {**write_keys(_MODEL, model), "tie_word_embeddings": model["share_embeddings"] == "target"}
    for side, sizes in _SIZES.items():
        own, pattern = write_keys(sizes, model), model["attention.pattern"]
        values[side] = {
            **own,
            **write_keys(_BOTH_SIDES, model),
            **write_keys(_MODEL, model),
            "query_pre_attn_scalar": int(scalar),
            "attn_logit_softcapping": model["attention.softcap"] or None,
            "final_logit_softcapping": model["output.softcap"] or None,
            "sliding_window": model["attention.window"]
            or 4096,  # the reference asks for one even if all layers are full
            "layer_types": [names[pattern[i % len(pattern)]] for i in range(own["num_hidden_layers"])],
            "hidden_activation": activation,
            "rope_parameters": {"rope_type": "default", "rope_theta": model["position_details.theta"]},
        }
    return values


def _name_map(model: ModelConfig) -> NameMap:
    source, target, output = _TABLES
    rows = [
        NameRule(target, "target_embedding/table"),
        NameRule(source, "source_embedding/table"),
        NameRule(output, "output/kernel", MATRIX),
    ]
    for side in _SIZES:
        tensor, ours = f"model.{side}.layers.{{}}.", f"{side}/layers_{{}}/"
        for sublayer, attention in (("self_attention", "self_attn"), ("cross_attention", "cross_attn")):
            projections = [f"{tensor}{attention}.{name}_proj" for name in ("q", "k", "v", "o")]
            rows += attention_rules(projections, f"{ours}{sublayer}")
            rows += _of_norms(f"{tensor}{{}}_{attention}_layernorm", f"{ours}{sublayer}")
        rows += _of_norms(f"{tensor}{{}}_feedforward_layernorm", f"{ours}feed_forward")
        for part in ("gate", "up", "down"):
            rows.append(NameRule(f"{tensor}mlp.{part}_proj.weight", f"{ours}feed_forward/{part}/kernel", MATRIX))
        rows.append(NameRule(f"model.{side}.norm.weight", f"{side}/norm/scale"))
    return NameMap(tuple(rows), {target: (output,) if model.share_embeddings == "target" else ()})


def _of_norms(tensor: str, ours: str) -> list[NameRule]:
    """Those before and after a sublayer."""
    return [
        NameRule(f"{tensor.format('{}', place)}.weight", f"{ours}_residual/{name}/scale")
        for place, name in (("pre", "norm"), ("post", "norm_within"))
    ]


def _sizes(config: Mapping[str, Any]) -> tuple[int, int]:
    encoder, decoder = ((config.get(side) or {}).get("vocab_size", 256_000) for side in _SIZES)
    return encoder, decoder


T5GEMMA = Family(
    _config_to_model, _model_to_config, _name_map, ((_TABLES[0],), (_TABLES[1],), (_TABLES[2], _TABLES[1])), _sizes
)
