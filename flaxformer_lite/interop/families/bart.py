"""Families that fairseq and Marian trained, which are laid out alike.

BART (Lewis et al. 2020), mBART (Liu et al. 2020), Marian (Junczys-Dowmunt et al. 2018), Pegasus (Zhang et al. 2020),
M2M-100 (Fan et al. 2020) and NLLB (2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop.families.settings import Family, Setting, Values, read, require_only, write
from flaxformer_lite.interop.families.tensors import MATRIX, ROW, Names, Row, of_attention

_SETTINGS = (
    Setting("d_model", 1024, ("width", "decoder_width")),
    Setting("encoder_layers", 12, ("num_layers",)),
    Setting("decoder_layers", 12, ("num_decoder_layers",)),
    Setting("encoder_attention_heads", 16, ("num_heads", "num_key_heads")),
    Setting("decoder_attention_heads", 16, ("num_decoder_heads", "num_decoder_key_heads")),
    Setting("encoder_ffn_dim", 4096, ("mlp_width",)),
    Setting("decoder_ffn_dim", 4096, ("decoder_mlp_width",)),
    Setting("max_position_embeddings", 1024, ("position_details.longest",)),
    Setting("dropout", 0.1, ("dropout",)),
    Setting("attention_dropout", 0.0, ("attention.dropout",)),
    Setting("activation_dropout", 0.0, ("feed_forward.dropout",)),
    Setting("scale_embedding", False, ("embeddings.scale",)),
    Setting("encoder_layerdrop", 0.0, ("layer_dropout",)),
)
_ALWAYS = {
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
_WAVES = ("embed_positions.weight", "embed_positions.weights")
_PARTS = {
    "self_attention": ("self_attn", "self_attn_layer_norm"),
    "cross_attention": ("encoder_attn", "encoder_attn_layer_norm"),
}


class _Kind(NamedTuple):
    """In what they differ.

    Attributes:
      always: values of our model group.
      defaults: of a config.json that lacks the key, where they are not BART's.
      two_vocabularies: whether source and target may have one each.
    """

    always: Mapping[str, Any]
    defaults: Mapping[str, Any]
    two_vocabularies: bool

    def to_model(self, config: Mapping[str, Any], share: str) -> Values:
        """Of a config.json."""
        config = {**self.defaults, **config}
        derived = {"vocab_size", "activation_function", "tie_word_embeddings"}
        sides = {"decoder_vocab_size", "share_encoder_decoder_embeddings"} if self.two_vocabularies else set()
        taken = {setting.theirs for setting in _SETTINGS}
        layer_dropout, layers = config.get("encoder_layerdrop", 0.0), config.get("encoder_layers", 12)
        fixed = {"decoder_layerdrop": layer_dropout, "num_hidden_layers": layers}
        require_only(config, taken | derived | sides, fixed)
        activation = config.get("activation_function", "gelu")
        if activation not in _ACTIVATIONS:
            raise InputError(
                f"config.json: activation_function={activation!r} is not supported; {', '.join(_ACTIVATIONS)} are"
            )
        values = {**_ALWAYS, **self.always, **read(_SETTINGS, config)}
        if values["positions"] == "fairseq":  # which counts from behind the id of padding
            values["position_details.offset"] = config["pad_token_id"] + 1
        return {**values, "feed_forward.activation": _ACTIVATIONS[activation], "share_embeddings": share}

    def from_model(self, model: Values) -> Values:
        """A config.json, but for vocabularies."""
        activation = next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == model["feed_forward.activation"])
        share = model["share_embeddings"]
        if share == "target" and not self.two_vocabularies:
            raise InputError(
                "config.model.share_embeddings='target': a model of this family shares all word vectors or none"
            )
        values = {
            **write(_SETTINGS, model),
            "decoder_layerdrop": model["layer_dropout"],
            "activation_function": activation,
            "tie_word_embeddings": share in ("all", "target"),
        }
        if self.two_vocabularies:
            values["share_encoder_decoder_embeddings"] = share in ("all", "inputs")
        if model["positions"] == "fairseq":
            values["pad_token_id"] = model["position_details.offset"] - 1
        return values

    def sizes(self, config: Mapping[str, Any]) -> tuple[int, int]:
        """Of the vocabularies."""
        config = {**self.defaults, **config}
        size = config["vocab_size"]
        one = config.get("share_encoder_decoder_embeddings", True)
        return size, size if one else config.get("decoder_vocab_size") or size


def _names(model: ModelConfig) -> Names:
    rows = [*_tables(model.share_embeddings), Row("final_logits_bias", "output/bias", ROW)]
    for half in ("encoder", "decoder"):
        theirs, ours = f"model.{half}.layers.{{}}.", f"{half}/layers_{{}}/"
        for sublayer, (attention, norm) in _PARTS.items():
            rows += _of_norm(f"{theirs}{norm}", f"{ours}{sublayer}_residual/norm")
            projections = [f"{theirs}{attention}.{name}_proj" for name in ("q", "k", "v", "out")]
            rows += of_attention(projections, f"{ours}{sublayer}")
        rows += _of_norm(f"{theirs}final_layer_norm", f"{ours}feed_forward_residual/norm")
        for name, part in (("fc1", "up"), ("fc2", "down")):
            rows.append(Row(f"{theirs}{name}.weight", f"{ours}feed_forward/{part}/kernel", MATRIX))
            rows.append(Row(f"{theirs}{name}.bias", f"{ours}feed_forward/{part}/bias"))
        rows += _of_norm(f"model.{half}.layernorm_embedding", f"{half}/norm_embeddings")
        rows += _of_norm(f"model.{half}.layer_norm", f"{half}/norm")
        rows.append(Row(f"model.{half}.embed_positions.weight", f"{half}/positions/vectors/table"))
    of_shared = {"all": (_SOURCE, _TARGET, _OUTPUT), "inputs": (_SOURCE, _TARGET)}.get(model.share_embeddings, ())
    aliases = {_SHARED: of_shared, _TARGET: (_OUTPUT,) if model.share_embeddings == "target" else ()}
    # Waves are computed, versions are of early files, and vectors that both sides would share are not used where each
    # side has its own.
    ends = ("version",) if model.positions == "learned" else ("version", *_WAVES)
    unused = [f"model.{half}.{end}" for half in ("encoder", "decoder") for end in ends]
    return Names(tuple(rows), aliases, (*unused,) if of_shared else (*unused, _SHARED))


def _of_norm(theirs: str, ours: str) -> tuple[Row, Row]:
    return Row(f"{theirs}.weight", f"{ours}/scale"), Row(f"{theirs}.bias", f"{ours}/bias")


def _tables(share: str) -> tuple[Row, ...]:
    one = share in ("all", "inputs")
    return (
        Row(_SHARED if one else _TARGET, "target_embedding/table"),
        Row(_SOURCE, "source_embedding/table"),
        Row(_OUTPUT, "output/kernel", MATRIX),
    )


def _family(norm: str, positions: str, always: Mapping[str, Any], defaults: Mapping[str, Any]) -> Family:
    offset = 2 if positions in ("learned", "fairseq") else 0
    given = {"norm": norm, "positions": positions, "position_details.offset": offset, "norms.embeddings": False}
    kind = _Kind({**given, "output.bias": "always", **always}, defaults, "share_encoder_decoder_embeddings" in defaults)
    tables = (_SOURCE, _SHARED), (_TARGET, _SHARED), (_OUTPUT, _TARGET, _SHARED)
    return Family(kind.to_model, kind.from_model, _names, tables, kind.sizes)


BART = _family("after", "learned", {"norms.embeddings": True}, {"vocab_size": 50265})
MBART = _family("before", "learned", {"norms.embeddings": True}, {"vocab_size": 50265})
MARIAN = _family("after", "halves", {}, {"vocab_size": 58101, "share_encoder_decoder_embeddings": True})
PEGASUS = _family("before", "halves", {}, {"vocab_size": 50265})
M2M_100 = _family(
    norm="before",
    positions="fairseq",
    always={"output.bias": "never"},
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
