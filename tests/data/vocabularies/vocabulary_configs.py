"""Configs of vocabularies for tests."""

from typing import Any

from flaxformer_lite.config.dataclasses import VocabularyConfig
from flaxformer_lite.config.value_types import Options

_DEFAULTS: dict[str, Any] = {
    **{"size": 0, "model": "", "model_type": "unigram", "sample_size": 0, "tag_pattern": "", "tag_separator": ";"},
    **{"special_tokens": (), "num_sentinels": 0, "options": Options()},
}


def vocabulary_config(kind: str, **changes: Any) -> VocabularyConfig:
    """A config with the default of every key that is not given; all of the training text."""
    return VocabularyConfig(kind=kind, **(_DEFAULTS | changes))  # pyright: ignore[reportArgumentType]
