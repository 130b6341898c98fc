"""The models that the tests run over."""

import dataclasses
from functools import cache
from typing import Any

from flaxformer_lite.config import defaults, parsing
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.config.model_dataclasses import ModelConfig, StackConfig
from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from tests.models import contract

_TINY = {"width": 8, "num_heads": 2, "mlp_dim": 12, "num_layers": 1, "dropout": 0.5}


def _model(**changes: Any) -> EncoderDecoder:
    """A tiny model; keys are dotted ones of ``model``."""
    config = defaults.get_config()
    config.data.share_vocabulary = changes.get("share_embeddings") in ("all", "inputs")
    config.model.update_from_flattened_dict({f"encoder.{key}": value for key, value in _TINY.items()} | changes)
    checked: Config = parsing.from_dict(config.to_dict())
    return EncoderDecoder(checked.model, contract.SOURCE_SIZE, contract.TARGET_SIZE, contract.MAX_LENGTH)


def with_dropout(config: ModelConfig, rate: float) -> ModelConfig:
    """The same model with this rate everywhere."""

    def changed(stack: StackConfig) -> StackConfig:
        parts = {
            name: dataclasses.replace(getattr(stack, name), dropout=rate) for name in ("attention", "feed_forward")
        }
        return dataclasses.replace(stack, dropout=rate, **parts)

    return dataclasses.replace(config, encoder=changed(config.encoder), decoder=changed(config.decoder))


def _transformer(positions: str, norm: str, share: str, layers: tuple[int, int] = (1, 1)) -> EncoderDecoder:
    return _model(
        **{"encoder.positions.kind": positions, "encoder.norm.placement": norm, "share_embeddings": share},
        **{"encoder.num_layers": layers[0], "decoder.num_layers": layers[1]},
    )


def _rnn(layers: tuple[int, int] = (1, 1), share: str = "target", dropout: float = 0.5, **rnn: Any) -> EncoderDecoder:
    """A recurrent encoder and decoder; ``rnn`` are keys of ``rnn`` for both."""
    return _model(
        **{"encoder.kind": "rnn", "decoder.kind": "rnn", "share_embeddings": share},
        **{"encoder.num_layers": layers[0], "decoder.num_layers": layers[1], "encoder.dropout": dropout},
        **{f"encoder.rnn.{key}": value for key, value in rnn.items()},
    )


# Every pair of options is in one of these.
TRANSFORMERS = {
    "sinusoidal, pre, target, 1 + 2": _transformer("sinusoidal", "pre", "target", (1, 2)),
    "sinusoidal, post, all": _transformer("sinusoidal", "post", "all"),
    "sinusoidal, post, none": _transformer("sinusoidal", "post", "none"),
    "learned, pre, none": _transformer("learned", "pre", "none"),
    "learned, pre, all": _transformer("learned", "pre", "all"),
    "learned, post, target, 2 + 1": _transformer("learned", "post", "target", (2, 1)),
}
# Each part of a published family is in one of these, all sizes different.
PUBLISHED = {
    "relative bias": _model(
        **{"encoder.positions.kind": "relative_bias", "encoder.positions.num_buckets": 6},
        **{"encoder.positions.max_distance": 4, "encoder.norm.kind": "rms", "encoder.norm.epsilon": 0.1},
        **{"encoder.attention.bias": False, "encoder.attention.query_pre_attn_scalar": 1.0, "encoder.head_dim": 3},
        **{"encoder.feed_forward.gated": True, "encoder.feed_forward.activation": "gelu_tanh"},
        **{"encoder.feed_forward.bias": False, "encoder.final_dropout": 0.2, "init": "fan_in"},
        **{"scale_embeddings": False, "lm_head.scale": True, "lm_head.bias": "always", "vocab_pad_multiple": 4},
        **{"decoder.num_layers": 2, "decoder.num_heads": 4, "decoder.head_dim": 5, "decoder.mlp_dim": 10},
    ),
    "relative bias per layer": _model(
        **{"encoder.positions.kind": "relative_bias", "encoder.positions.per_layer": True},
        **{"encoder.positions.num_buckets": 4, "encoder.positions.max_distance": 3, "share_embeddings": "inputs"},
        **{"encoder.norm.placement": "sandwich", "encoder.feed_forward.activation": "silu"},
        **{"encoder.num_layers": 2, "decoder.num_layers": 1},
    ),
    "rotary": _model(
        **{"encoder.positions.kind": "rotary", "encoder.positions.theta": 5.0, "encoder.norm.placement": "sandwich"},
        **{"encoder.norm.kind": "rms", "encoder.norm.unit_offset": True, "encoder.attention.bias": False},
        **{"encoder.width": 16, "encoder.head_dim": 6, "encoder.num_heads": 4, "encoder.num_kv_heads": 2},
        **{"decoder.width": 12, "decoder.head_dim": 2, "decoder.num_heads": 6, "decoder.num_kv_heads": 3},
        **{"encoder.attention.soft_cap": 2.0, "lm_head.soft_cap": 3.0, "encoder.attention.sliding_window": 2},
        **{"encoder.attention.layer_pattern": ("local", "global"), "encoder.feed_forward.activation": "gelu_tanh"},
        **{"encoder.num_layers": 2, "decoder.num_layers": 3},
    ),
    "sinusoidal_concat": _model(
        **{"encoder.positions.kind": "sinusoidal_concat", "encoder.norm.placement": "post"},
        **{"encoder.norm.embeddings": True, "encoder.norm.final": "always", "encoder.feed_forward.activation": "gelu"},
        **{"share_embeddings": "inputs", "lm_head.bias": "never", "init": "normal_0.02"},
    ),
    "sinusoidal_fairseq": _model(
        **{"encoder.positions.kind": "sinusoidal_fairseq", "encoder.positions.offset": 2},
        **{"encoder.norm.final": "never", "decoder.num_heads": 4, "decoder.num_kv_heads": 4},
    ),
    "learned, unscaled": _model(
        **{"encoder.positions.kind": "learned", "encoder.positions.offset": 2, "encoder.positions.scale": False},
        **{"encoder.norm.placement": "post", "encoder.norm.embeddings": True},
        **{"share_embeddings": "all", "lm_head.bias": "always"},
    ),
    "different stacks": _model(
        **{"encoder.positions.kind": "learned", "encoder.norm.kind": "rms", "decoder.norm.kind": "layer"},
        **{"decoder.positions.kind": "rotary", "decoder.attention.bias": False},
        **{"decoder.norm.placement": "post", "decoder.feed_forward.gated": True, "decoder.width": 12},
    ),
}
# Every value of every option is in two of these, sizes all different.
RECURRENT = {
    "elman, forward, sutskever, copied": _rnn(
        share="none", cell="elman", direction="forward", design="sutskever", bridge="copy", embedding_dim=5
    ),
    "lstm, backward, sutskever, 1 + 2": _rnn((1, 2), direction="backward", design="sutskever", residual_from=2),
    "gru, both, cho, 2 + 1": _rnn(
        (2, 1), share="all", cell="gru", design="cho", residual_from=2, variational_dropout=True
    ),
    "gru2014, forward, cho, copied": _rnn(
        cell="gru2014", direction="forward", design="cho", bridge="copy", embedding_dim=5, readout_dim=5
    ),
    "gru2014, both, bahdanau, additive": _rnn(
        share="none", cell="gru2014", embedding_dim=5, attention_dim=7, readout_dim=6
    ),
    "lstm, forward, bahdanau, dot, 2 + 2": _rnn(
        (2, 2), direction="forward", attention="dot", residual_from=2, bridge="copy"
    ),
    "elman, both, luong, concat": _rnn(share="all", cell="elman", design="luong", attention="concat", attention_dim=3),
    "lstm, both, luong, general, fed, 1 + 2": _rnn(
        (1, 2),
        design="luong",
        attention="general",
        input_feeding=True,
        readout_dim=5,
        embedding_dim=5,
        variational_dropout=True,
    ),
    "gru, backward, luong, dot, fed": _rnn(
        cell="gru", direction="backward", design="luong", attention="dot", input_feeding=True
    ),
    "lstm to gru, widths differ": _model(
        **{"encoder.kind": "rnn", "decoder.kind": "rnn", "decoder.width": 6, "decoder.rnn.cell": "gru"},
        **{"encoder.rnn.residual_from": 2, "encoder.num_layers": 2, "decoder.rnn.residual_from": 0},
    ),
}
MIXED = {
    "rnn to transformer": _model(
        **{"encoder.kind": "rnn", "encoder.rnn.embedding_dim": 5, "encoder.positions.kind": "learned"},
        **{"decoder.num_layers": 2},
    ),
    "transformer to bahdanau": _model(
        **{"decoder.kind": "rnn", "encoder.norm.placement": "post", "share_embeddings": "all"}
    ),
    "transformer to luong": _model(
        **{"decoder.kind": "rnn", "decoder.rnn.design": "luong", "decoder.rnn.cell": "gru", "decoder.num_layers": 2},
        **{"decoder.rnn.attention": "general", "decoder.rnn.embedding_dim": 5, "decoder.rnn.readout_dim": 5},
    ),
}
USER_DEFINED = {
    "convolutional encoder": _model(
        **{"encoder.kind": "tests.models.conv_encoder:ConvEncoder", "encoder.options.kernel_size": 5},
        **{"encoder.num_layers": 2, "decoder.num_layers": 1},
    ),
}
MODELS = TRANSFORMERS | PUBLISHED | RECURRENT | MIXED | USER_DEFINED
TAKE_PACKED_ROWS = [*TRANSFORMERS, *PUBLISHED]
WITHOUT_EFFECT = ("key_bias",)  # adds the same number to all logits of a query, which softmax removes


@cache
def subject(name: str) -> contract.Subject:
    """A model ready to be tested; its compiled functions are shared by all tests."""
    return contract.Subject(MODELS[name])
