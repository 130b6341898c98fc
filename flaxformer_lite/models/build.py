"""From a config to the model that it describes."""

from __future__ import annotations

from flaxformer_lite.config import Config
from flaxformer_lite.models.encoder_decoder import EncoderDecoder


def make_model(config: Config, source_size: int, target_size: int) -> EncoderDecoder:
    """The model for vocabularies of these sizes."""
    longest = max(config.data.max_source_length, config.data.max_target_length)
    return EncoderDecoder(config.model, source_size, target_size, longest)
