"""Bounds of the numbers of the model group; those of other keys are declared beside their types."""

from __future__ import annotations

from typing import Any

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import require

# Smallest allowed value of every number that has one.
AT_LEAST = {
    "model.width": 1,
    "model.num_heads": 1,
    "model.num_key_heads": 1,
    "model.head_width": 0,
    "model.mlp_width": 1,
    "model.num_layers": 1,
    "model.decoder_width": 1,
    "model.num_decoder_heads": 1,
    "model.num_decoder_key_heads": 1,
    "model.decoder_head_width": 0,
    "model.decoder_mlp_width": 1,
    "model.num_decoder_layers": 1,
    "model.dropout": 0,
    "model.final_dropout": 0,
    "model.layer_dropout": 0,
    "model.position_details.longest": 0,
    "model.position_details.offset": 0,
    "model.position_details.buckets": 4,
    "model.position_details.max_distance": 2,
    "model.position_details.theta": 1,
    "model.norms.epsilon": 0,
    "model.attention.query_scalar": 0,
    "model.attention.softcap": 0,
    "model.attention.window": 0,
    "model.attention.dropout": 0,
    "model.feed_forward.dropout": 0,
    "model.embeddings.multiple": 1,
    "model.output.softcap": 0,
    "model.rnn.embedding_width": 0,
    "model.rnn.attention_width": 0,
    "model.rnn.readout_width": 0,
    "model.rnn.residual_from": 0,
}
BELOW_ONE = (
    *("model.dropout", "model.attention.dropout", "model.feed_forward.dropout"),
    *("model.final_dropout", "model.layer_dropout"),
)


def check_ranges(config: Config) -> None:
    """Raises ``InputError`` of the first number that is out of its range."""

    def get(key: str) -> float:
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name)
        return value

    for key, low in AT_LEAST.items():
        require(get(key) >= low, f"config.{key}={get(key)}: must be at least {low}")
    for key in BELOW_ONE:
        require(get(key) < 1, f"config.{key}={get(key)}: must be below 1")
