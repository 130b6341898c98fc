"""T5 (Raffel et al. 2020), its 1.1, mT5 (Xue et al. 2021), ByT5 (Xue et al. 2022) and UMT5 (Chung et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop.families.settings import Family, Setting, Values, read, require_only, write
from flaxformer_lite.interop.families.tensors import MATRIX, Names, Row, of_attention

_SETTINGS = (
    Setting("d_model", 512, ("width", "decoder_width")),
    Setting("d_kv", 64, ("head_width", "decoder_head_width")),
    Setting("d_ff", 2048, ("mlp_width", "decoder_mlp_width")),
    Setting("num_layers", 6, ("num_layers",)),
    Setting("num_heads", 8, ("num_heads", "num_key_heads", "num_decoder_heads", "num_decoder_key_heads")),
    Setting("relative_attention_num_buckets", 32, ("position_details.buckets",)),
    Setting("relative_attention_max_distance", 128, ("position_details.max_distance",)),
    Setting("layer_norm_epsilon", 1e-6, ("norms.epsilon",)),
    Setting("dropout_rate", 0.1, ("dropout", "attention.dropout", "feed_forward.dropout", "final_dropout")),
)
_ALWAYS = {
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
_TABLES = "shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"


class _Kind(NamedTuple):
    """In what they differ.

    Attributes:
      positions: as ``model.positions`` says.
      scales: whether outputs are scaled, of a config.json.
      defaults: of a config.json that lacks the key, where they are not T5's.
    """

    positions: str
    scales: Callable[[Mapping[str, Any]], bool]
    defaults: Mapping[str, Any]

    def to_model(self, config: Mapping[str, Any], share: str) -> Values:
        """Of a config.json."""
        config = {**self.defaults, **config}
        taken = {setting.theirs for setting in _SETTINGS} | {"num_decoder_layers", "feed_forward_proj", "vocab_size"}
        derived = {"tie_word_embeddings", "scale_decoder_outputs", "dense_act_fn", "is_gated_act"}
        layers = config.get("num_layers", 6)
        require_only(config, taken | derived, {"num_hidden_layers": layers})
        gated, activation = _feed_forward(config)
        return {
            **_ALWAYS,
            **read(_SETTINGS, config),
            "num_decoder_layers": config.get("num_decoder_layers") or layers,
            "positions": self.positions,
            "feed_forward.activation": activation,
            "feed_forward.gated": gated,
            "share_embeddings": share,
            "output.scale": self.scales(config),
        }

    def sizes(self, config: Mapping[str, Any]) -> tuple[int, int]:
        """Of the vocabularies, which are one."""
        return (config.get("vocab_size", self.defaults.get("vocab_size", 32128)),) * 2


def _feed_forward(config: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether it is gated, and its activation: as a file says apart, or as ``feed_forward_proj`` does."""
    said = config.get("feed_forward_proj", "relu")
    gate, _, name = said.rpartition("-")
    name = "gelu_new" if said == "gated-gelu" else name  # T5 1.1's is named by what it nearly is
    activation = config.get("dense_act_fn", name)
    if gate not in ("", "gated") or activation not in _ACTIVATIONS:
        raise InputError(
            f"config.json: feed_forward_proj={said!r} with dense_act_fn={activation!r} is not supported; "
            f"{', '.join(_ACTIVATIONS)} are, alone or after 'gated-'"
        )
    return config.get("is_gated_act", gate == "gated"), _ACTIVATIONS[activation]


def _from_model(model: Values) -> Values:
    (activation,) = (theirs for theirs, ours in _ACTIVATIONS.items() if ours == model["feed_forward.activation"])
    gated = model["feed_forward.gated"]
    return {
        **write(_SETTINGS, model),
        "num_decoder_layers": model["num_decoder_layers"],
        "feed_forward_proj": f"gated-{activation.removesuffix('_new')}" if gated else activation,
        "dense_act_fn": activation,
        "is_gated_act": gated,
        "tie_word_embeddings": model["output.scale"],
    }


def _names(model: ModelConfig) -> Names:
    up = (("wi_0", "gate"), ("wi_1", "up")) if model.feed_forward.gated else (("wi", "up"),)
    rows = [*_of_tables(model.share_embeddings)]
    for half, sublayers in {
        "encoder": {"self_attention": "0.SelfAttention", "feed_forward": "1.DenseReluDense"},
        "decoder": {
            "self_attention": "0.SelfAttention",
            "cross_attention": "1.EncDecAttention",
            "feed_forward": "2.DenseReluDense",
        },
    }.items():
        theirs, ours = f"{half}.block.{{}}.layer.", f"{half}/layers_{{}}/"
        for sublayer, name in sublayers.items():
            rows.append(Row(f"{theirs}{name[0]}.layer_norm.weight", f"{ours}{sublayer}_residual/norm/scale"))
            if sublayer == "feed_forward":
                ends = (*up, ("wo", "down"))
                rows += [
                    Row(f"{theirs}{name}.{w}.weight", f"{ours}{sublayer}/{part}/kernel", MATRIX) for w, part in ends
                ]
            else:
                rows += of_attention([f"{theirs}{name}.{end}" for end in "qkvo"], f"{ours}{sublayer}")
        bias = "layer.0.SelfAttention.relative_attention_bias.weight"
        rows.append(Row(f"{half}.block.0.{bias}", f"{half}/positions/table"))
        rows.append(Row(f"{half}.block.{{}}.{bias}", f"{half}/layers_{{}}/positions/table"))
        rows.append(Row(f"{half}.final_layer_norm.weight", f"{half}/norm/scale"))
    shared, source, target, output = _TABLES
    of_shared = {"all": (source, target, output), "inputs": (source, target)}.get(model.share_embeddings, ())
    aliases = {shared: of_shared, target: (output,) if model.share_embeddings == "target" else ()}
    # Early checkpoints have biases of positions in the source, which nothing reads.
    return Names(tuple(rows), aliases, ("decoder.block.{}.layer.1.EncDecAttention.relative_attention_bias.weight",))


def _of_tables(share: str) -> tuple[Row, ...]:
    shared, source, target, output = _TABLES
    one = share in ("all", "inputs")
    return (
        Row(shared if one else target, "target_embedding/table"),
        Row(source, "source_embedding/table"),
        Row(output, "output/kernel", MATRIX),
    )


def _t5_scales(config: Mapping[str, Any]) -> bool:
    """T5 1.1 says by untied word vectors that it does not scale; newer files say it themselves."""
    return config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))


def _family(kind: _Kind) -> Family:
    shared, source, target, output = _TABLES
    tables = (source, shared), (target, shared), (output, target, shared)
    return Family(kind.to_model, _from_model, _names, tables, kind.sizes)


_LATER = {"vocab_size": 250112, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu"}
T5 = _family(_Kind("relative", _t5_scales, {}))
MT5 = _family(_Kind("relative", lambda config: False, _LATER))
UMT5 = _family(_Kind("relative_per_layer", _t5_scales, _LATER))
