"""The models that the tests run over."""

import dataclasses
from functools import cache
from typing import Any

from flaxformer_lite.config import defaults, parsing
from flaxformer_lite.config.dataclasses import Config, ModelConfig
from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from tests.models import contract

_TINY = {"width": 8, "num_heads": 2, "mlp_width": 12, "num_layers": 1, "num_decoder_layers": 1, "dropout": 0.5}


def _model(**changes: Any) -> EncoderDecoder:
    """A tiny model; keys are those of ``model``, or else of ``model.rnn``."""
    config = defaults.get_config()
    config.data.share_vocabulary = changes.get("share_embeddings") in ("all", "inputs")
    for key, value in (_TINY | changes).items():
        group = config.model if key.partition(".")[0] in config.model else config.model.rnn
        group.update_from_flattened_dict({key: value})
    checked: Config = parsing.from_dict(config.to_dict())
    return EncoderDecoder(checked.model, contract.SOURCE_SIZE, contract.TARGET_SIZE, contract.LONGEST)


def with_dropout(config: ModelConfig, rate: float) -> ModelConfig:
    """The same with this rate everywhere."""
    attention, feed_forward = (dataclasses.replace(x, dropout=rate) for x in (config.attention, config.feed_forward))
    return dataclasses.replace(config, dropout=rate, attention=attention, feed_forward=feed_forward)


def _transformer(positions: str, norm: str, share: str, layers: tuple[int, int] = (1, 1)) -> EncoderDecoder:
    sizes = {"num_layers": layers[0], "num_decoder_layers": layers[1]}
    return _model(positions=positions, norm=norm, share_embeddings=share, **sizes)


def _recurrent(**changes: Any) -> EncoderDecoder:
    return _model(**({"encoder": "rnn", "decoder": "rnn"} | changes))


# Every pair of options is in one of these.
TRANSFORMERS = {
    "sinusoidal, before, target, 1 + 2": _transformer("sinusoidal", "before", "target", (1, 2)),
    "sinusoidal, after, all": _transformer("sinusoidal", "after", "all"),
    "sinusoidal, after, none": _transformer("sinusoidal", "after", "none"),
    "learned, before, none": _transformer("learned", "before", "none"),
    "learned, before, all": _transformer("learned", "before", "all"),
    "learned, after, target, 2 + 1": _transformer("learned", "after", "target", (2, 1)),
}
# Each part of a published family is in one of these, all sizes different.
PUBLISHED = {
    "relative": _model(
        **{"positions": "relative", "position_details.buckets": 6, "position_details.max_distance": 4},
        **{"norms.kind": "rms", "norms.epsilon": 0.1, "attention.bias": False, "attention.query_scalar": 1.0},
        **{"feed_forward.gated": True, "feed_forward.activation": "gelu_tanh", "feed_forward.bias": False},
        **{"embeddings.scale": False, "output.scale": True, "head_width": 3, "init": "fan_in", "final_dropout": 0.2},
        **{"num_decoder_layers": 2, "num_decoder_heads": 4, "decoder_head_width": 5, "decoder_mlp_width": 10},
        **{"output.bias": "always", "embeddings.multiple": 4},
    ),
    "relative per layer": _model(
        **{"positions": "relative_per_layer", "position_details.buckets": 4, "position_details.max_distance": 3},
        **{"norm": "around", "feed_forward.activation": "silu", "num_layers": 2, "share_embeddings": "inputs"},
    ),
    "rotary": _model(
        **{"positions": "rotary", "position_details.theta": 5.0, "norm": "around", "norms.kind": "rms_from_one"},
        **{"width": 16, "head_width": 6, "num_heads": 4, "num_key_heads": 2, "decoder_width": 12, "num_layers": 2},
        **{"num_decoder_heads": 6, "num_decoder_key_heads": 3, "decoder_head_width": 2, "num_decoder_layers": 3},
        **{"attention.bias": False, "attention.softcap": 2.0, "output.softcap": 3.0, "attention.window": 2},
        **{"attention.pattern": ("window", "full"), "feed_forward.activation": "gelu_tanh"},
    ),
    "halves": _model(
        **{"positions": "halves", "norm": "after", "norms.embeddings": True, "norms.final": "always"},
        **{"share_embeddings": "inputs", "output.bias": "never", "init": "small", "feed_forward.activation": "gelu"},
    ),
    "fairseq": _model(
        **{"positions": "fairseq", "position_details.offset": 2, "norms.final": "never", "num_decoder_heads": 4},
    ),
    "learned, unscaled": _model(
        **{"positions": "learned", "position_details.offset": 2, "position_details.scale": False, "norm": "after"},
        **{"norms.embeddings": True, "share_embeddings": "all", "output.bias": "always"},
    ),
}
# Every value of every option is in two of these, sizes all different.
RECURRENT = {
    "elman, forward, sutskever, copied": _recurrent(
        cell="elman",
        direction="forward",
        design="sutskever",
        bridge="copy",
        embedding_width=5,
        share_embeddings="none",
    ),
    "lstm, backward, sutskever, 1 + 2": _recurrent(
        direction="backward", design="sutskever", num_decoder_layers=2, residual_from=2
    ),
    "gru, both, cho, 2 + 1": _recurrent(
        cell="gru", design="cho", num_layers=2, residual_from=2, share_embeddings="all", variational_dropout=True
    ),
    "gru2014, forward, cho, copied": _recurrent(
        cell="gru2014", direction="forward", design="cho", bridge="copy", embedding_width=5, readout_width=5
    ),
    "gru2014, both, bahdanau, additive": _recurrent(
        cell="gru2014", embedding_width=5, attention_width=7, readout_width=6, share_embeddings="none"
    ),
    "lstm, forward, bahdanau, dot, 2 + 2": _recurrent(
        direction="forward",
        **{"rnn.attention": "dot"},
        num_layers=2,
        num_decoder_layers=2,
        residual_from=2,
        bridge="copy",
    ),
    "elman, both, luong, concat": _recurrent(
        cell="elman", design="luong", **{"rnn.attention": "concat"}, attention_width=3, share_embeddings="all"
    ),
    "lstm, both, luong, general, fed, 1 + 2": _recurrent(
        design="luong",
        **{"rnn.attention": "general"},
        input_feeding=True,
        num_decoder_layers=2,
        readout_width=5,
        embedding_width=5,
        variational_dropout=True,
    ),
    "gru, backward, luong, dot, fed": _recurrent(
        cell="gru", direction="backward", design="luong", **{"rnn.attention": "dot"}, input_feeding=True
    ),
}
MIXED = {
    "rnn to transformer": _model(encoder="rnn", embedding_width=5, positions="learned", num_decoder_layers=2),
    "transformer to bahdanau": _model(decoder="rnn", norm="after", share_embeddings="all"),
    "transformer to luong": _model(
        decoder="rnn",
        cell="gru",
        **{"rnn.attention": "general"},
        input_feeding=False,
        embedding_width=5,
        readout_width=5,
        num_decoder_layers=2,
    ),
}
MODELS = {
    **TRANSFORMERS,
    **PUBLISHED,
    **RECURRENT,
    **MIXED,
}  # a new model adds itself here, and to these where it takes packed rows
TAKE_PACKED_ROWS = [*TRANSFORMERS, *PUBLISHED]
SILENT = ("key_bias",)  # adds the same to all logits of a query, which softmax takes away again


@cache
def subject(name: str) -> contract.Subject:
    """A model ready to be tested; compiled functions are shared by all tests."""
    return contract.Subject(MODELS[name])
