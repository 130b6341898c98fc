"""The models that the tests run over."""

from functools import cache
from typing import Any

from configs import base
from flaxformer_lite import schema
from flaxformer_lite.config import Config
from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from tests.models import contract

_TINY = {"width": 8, "num_heads": 2, "mlp_width": 12, "num_layers": 1, "num_decoder_layers": 1, "dropout": 0.5}


def _model(**changes: Any) -> EncoderDecoder:
    """A tiny model; keys of ``model.rnn`` and of ``model`` do not share a name."""
    config = base.get_config()
    config.data.share_vocabulary = changes.get("share_embeddings") == "all"
    for key, value in (_TINY | changes).items():
        group = config.model if key in config.model else config.model.rnn
        group[key] = value
    checked: Config = schema.from_dict(config.to_dict())
    return EncoderDecoder(checked.model, contract.SOURCE_SIZE, contract.TARGET_SIZE, contract.LONGEST)


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
        direction="forward", attention="dot", num_layers=2, num_decoder_layers=2, residual_from=2, bridge="copy"
    ),
    "elman, both, luong, concat": _recurrent(
        cell="elman", design="luong", attention="concat", attention_width=3, share_embeddings="all"
    ),
    "lstm, both, luong, general, fed, 1 + 2": _recurrent(
        design="luong",
        attention="general",
        input_feeding=True,
        num_decoder_layers=2,
        readout_width=5,
        embedding_width=5,
        variational_dropout=True,
    ),
    "gru, backward, luong, dot, fed": _recurrent(
        cell="gru", direction="backward", design="luong", attention="dot", input_feeding=True
    ),
}
MIXED = {
    "rnn to transformer": _model(encoder="rnn", embedding_width=5, positions="learned", num_decoder_layers=2),
    "transformer to bahdanau": _model(decoder="rnn", norm="after", share_embeddings="all"),
    "transformer to luong": _model(
        decoder="rnn",
        cell="gru",
        attention="general",
        input_feeding=False,
        embedding_width=5,
        readout_width=5,
        num_decoder_layers=2,
    ),
}
MODELS = {**TRANSFORMERS, **RECURRENT, **MIXED}  # a new model adds itself here, and to these where it takes packed rows
TAKE_PACKED_ROWS = list(TRANSFORMERS)
SILENT = ("key_bias",)  # adds the same to all logits of a query, which softmax takes away again


@cache
def subject(name: str) -> contract.Subject:
    """A model ready to be tested; compiled functions are shared by all tests."""
    return contract.Subject(MODELS[name])
