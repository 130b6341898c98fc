"""From a config to the model that it describes."""

from __future__ import annotations

import dataclasses

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.models.encoder_decoder import EncoderDecoder


def make_model(config: Config, source_size: int, target_size: int) -> EncoderDecoder:
    """The model for vocabularies of these sizes."""
    longest = config.model.position_details.longest or max(config.data.max_source_length, config.data.max_target_length)
    return EncoderDecoder(config.model, source_size, target_size, longest, config.precision.dtype)


def make_decoding_model(config: Config, source_size: int, target_size: int) -> EncoderDecoder:
    """The same model layer by layer, as decoding takes it however it was trained."""
    each = dataclasses.replace(config.model, scan_layers=False)
    return make_model(dataclasses.replace(config, model=each), source_size, target_size)
