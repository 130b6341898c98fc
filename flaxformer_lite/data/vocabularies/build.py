"""The vocabulary that a config describes, built from training text where it needs any."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from flaxformer_lite.config.dataclasses import VocabularyConfig
from flaxformer_lite.data.vocabularies.base import NUM_SPECIAL, Vocabulary
from flaxformer_lite.data.vocabularies.byte import ByteVocabulary
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary, WordVocabulary
from flaxformer_lite.data.vocabularies.custom import CustomVocabulary
from flaxformer_lite.data.vocabularies.extended import (
    check_tokens,
    extend_vocabulary,
    extension_tokens,
    texts_between,
)
from flaxformer_lite.data.vocabularies.integer import IntegerVocabulary
from flaxformer_lite.data.vocabularies.saved import read_saved
from flaxformer_lite.data.vocabularies.sentencepiece import DEFAULT_SIZE, SentencePieceVocabulary
from flaxformer_lite.data.vocabularies.statistics import describe_degeneration, measure
from flaxformer_lite.data.vocabularies.tags import TagVocabulary
from flaxformer_lite.data.vocabularies.tokenizer_file import read_tokenizer_file
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.system.heartbeat import heartbeat

logger = logging.getLogger(__name__)


def build_vocabulary(config: VocabularyConfig, texts: Iterable[str], key: str) -> Vocabulary:
    """Builds the vocabulary of a training text, with the special tokens that the config adds.

    Args:
      config: its kind, size and options.
      texts: the training text.
      key: the config key of ``config``, for error messages.

    Raises:
      InputError: the size is too small, a file or class that the config names cannot be read, or a special token
        cannot be added.
    """
    check_tokens(config, key)
    with heartbeat(f"building the {config.kind} vocabulary of {key}"):
        base = _build(config, texts_between(texts, extension_tokens(config)), key)
    return extend_vocabulary(base, config, key)


def known_size(config: VocabularyConfig, key: str) -> int:
    """The number of ids of a vocabulary, as far as its config limits it; 0 where it depends on the training text.

    ``key`` is the config key of ``config``, for error messages.
    """
    match config.kind:
        case "saved":
            base = read_saved(Path(config.model).expanduser())
            return extend_vocabulary(base, config, key).size
        case "byte":
            size = ByteVocabulary().size
        case _:
            size = config.size
    return size + len(extension_tokens(config)) if size else 0


def _build(config: VocabularyConfig, texts: Iterable[str], key: str) -> Vocabulary:
    match config.kind:
        case "byte":
            _require_size(config, ByteVocabulary().size, key)
            return ByteVocabulary()
        case "character" | "word":
            _require_size(config, NUM_SPECIAL + 1, key)
            return {"character": CharacterVocabulary, "word": WordVocabulary}[config.kind].build(texts, config.size)
        case "sentencepiece":
            return _read_sentencepiece(config, key) if config.model else _train_sentencepiece(config, texts, key)
        case "tags":
            _require_size(config, NUM_SPECIAL + 1, key)
            return _build_tags(config, texts, key)
        case "ids":
            _require_size(config, NUM_SPECIAL + 1, key)
            return IntegerVocabulary(config.size) if config.size else _build_integers(texts, key)
        case "tokenizer":
            vocabulary = read_tokenizer_file(Path(config.model).expanduser(), f"{key}.model={config.model!r}")
            _require_room(config, vocabulary, key)
            return vocabulary
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


def _require_room(config: VocabularyConfig, vocabulary: Vocabulary, key: str) -> None:
    require(
        config.size == 0 or config.size >= vocabulary.size,
        f"{key}.model={config.model!r}",
        f"it has {vocabulary.size} entries, {NUM_SPECIAL} special ones included, more than {key}.size={config.size}",
        f"set {key}.size to 0",
    )


def _build_tags(config: VocabularyConfig, texts: Iterable[str], key: str) -> TagVocabulary:
    require(bool(config.tag_separator), f"{key}.tag_separator=''", "is empty", "such as ';'")
    try:
        return TagVocabulary.build(texts, config.size, config.tag_pattern, config.tag_separator)
    except re.error as error:
        raise InputError(f"{key}.tag_pattern={config.tag_pattern!r}", f"is no regular expression: {error}") from error


def _build_integers(texts: Iterable[str], key: str) -> IntegerVocabulary:
    try:
        return IntegerVocabulary.build(texts)
    except ValueError as error:
        reason = f"the training text has {error.args[0]!r}, which is no integer from 0"
        raise InputError(f"{key}.kind='ids'", reason, "use kind 'word'") from error


def _read_sentencepiece(config: VocabularyConfig, key: str) -> SentencePieceVocabulary:
    try:
        vocabulary = SentencePieceVocabulary(Path(config.model).expanduser().read_bytes())
    except (OSError, RuntimeError) as error:
        subject = f"{key}.model={config.model!r}"
        raise InputError(subject, f"it cannot be read as a SentencePiece model: {error}") from error
    _require_room(config, vocabulary, key)
    return vocabulary


def _train_sentencepiece(config: VocabularyConfig, texts: Iterable[str], key: str) -> SentencePieceVocabulary:
    size = config.size or DEFAULT_SIZE
    texts = texts if isinstance(texts, Sequence) else list(texts)
    try:
        vocabulary = SentencePieceVocabulary.train(texts, size, config.model_type, config.sample_size)
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2] or str(error)  # without the location in SentencePiece's own source
        raise InputError(f"{key}.size={size}", f"no SentencePiece vocabulary could be trained: {reason}") from error
    if vocabulary.size < config.size:
        logger.warning(
            f"{key}.size={config.size}: the training text gives a SentencePiece vocabulary of only {vocabulary.size:,} "
            "entries"
        )
    if reason := describe_degeneration(vocabulary, measure(vocabulary, texts)):
        logger.warning(
            f"{key}.kind='sentencepiece': the trained vocabulary is of little use: {reason}; try another "
            f"{key}.sample_size, a smaller {key}.size or {key}.model_type='bpe'"
        )
    return vocabulary
