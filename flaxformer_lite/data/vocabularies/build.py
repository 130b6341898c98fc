"""The vocabulary that a config describes, built from training text where it needs any."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from flaxformer_lite.config.dataclasses import VocabularyConfig
from flaxformer_lite.data.vocabularies.base import NUM_SPECIAL, Vocabulary
from flaxformer_lite.data.vocabularies.byte import ByteVocabulary
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary, WordVocabulary
from flaxformer_lite.data.vocabularies.custom import CustomVocabulary
from flaxformer_lite.data.vocabularies.saved import read_saved
from flaxformer_lite.data.vocabularies.sentencepiece import DEFAULT_SIZE, SentencePieceVocabulary
from flaxformer_lite.errors import InputError, require

logger = logging.getLogger(__name__)


def build_vocabulary(config: VocabularyConfig, texts: Iterable[str], key: str) -> Vocabulary:
    """Builds the vocabulary of a training text.

    Args:
      config: its kind, size and options.
      texts: the training text.
      key: the config key of ``config``, for error messages.

    Raises:
      InputError: the size is too small, or a file or class that the config names cannot be read.
    """
    match config.kind:
        case "byte":
            _require_size(config, ByteVocabulary().size, key)
            return ByteVocabulary()
        case "character" | "word":
            _require_size(config, NUM_SPECIAL + 1, key)
            return {"character": CharacterVocabulary, "word": WordVocabulary}[config.kind].build(texts, config.size)
        case "sentencepiece":
            return _read_sentencepiece(config, key) if config.model else _train_sentencepiece(config, texts, key)
        case "saved":
            return read_saved(Path(config.model).expanduser())
        case _:
            return CustomVocabulary.build(config, texts, f"{key}.kind")


def _require_size(config: VocabularyConfig, smallest: int, key: str) -> None:
    require(
        config.size == 0 or config.size >= smallest,
        f"{key}.size={config.size}",
        f"a {config.kind} vocabulary has at least {smallest} entries, {NUM_SPECIAL} special ones included",
        "0 means as many as needed",
    )


def _read_sentencepiece(config: VocabularyConfig, key: str) -> SentencePieceVocabulary:
    subject = f"{key}.model={config.model!r}"
    try:
        vocabulary = SentencePieceVocabulary(Path(config.model).expanduser().read_bytes())
    except (OSError, RuntimeError) as error:
        raise InputError(subject, f"it cannot be read as a SentencePiece model: {error}") from error
    require(
        config.size == 0 or config.size >= vocabulary.size,
        subject,
        f"it has {vocabulary.size} entries, {NUM_SPECIAL} special ones included, more than {key}.size={config.size}",
        f"set {key}.size to 0",
    )
    return vocabulary


def _train_sentencepiece(config: VocabularyConfig, texts: Iterable[str], key: str) -> SentencePieceVocabulary:
    size = config.size or DEFAULT_SIZE
    try:
        vocabulary = SentencePieceVocabulary.train(texts, size)
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2] or str(error)  # without the location in SentencePiece's own source
        raise InputError(f"{key}.size={size}", f"no SentencePiece vocabulary could be trained: {reason}") from error
    if vocabulary.size < config.size:
        logger.warning(
            f"{key}.size={config.size}: the training text gives a SentencePiece vocabulary of only {vocabulary.size:,} "
            "entries"
        )
    return vocabulary
