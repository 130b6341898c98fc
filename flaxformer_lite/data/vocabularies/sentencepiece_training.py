"""Training of SentencePiece models (Kudo and Richardson 2018) from a sample of the training text."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import sentencepiece

logger = logging.getLogger(__name__)

_MAX_LINE_BYTES = 1_000_000  # the trainer skips longer lines
_MAX_CHARACTERS = 150_000_000  # of a sample: the trainer of unigram models needs 22 bytes of memory for each


def train_model(
    texts: Iterable[str], num_pieces: int, model_type: Literal["unigram", "bpe"], sample_size: int
) -> bytes:
    """Trains a model without text normalization that splits rare characters into bytes.

    SentencePiece releases the interpreter while it trains, so that other threads can report progress.

    Args:
      texts: the training text.
      num_pieces: of the model at most, the unknown piece included.
      model_type: see ``sentencepiece.SentencePieceTrainer``.
      sample_size: number of lines to train on; see ``sample_evenly``. 0: all.

    Returns:
      The serialized model.

    Raises:
      RuntimeError: SentencePiece cannot train a model of this size.
    """
    lines = sample_evenly(texts, sample_size, _MAX_CHARACTERS) if sample_size else texts
    if isinstance(texts, Sequence) and isinstance(lines, Sequence) and len(lines) < len(texts):
        logger.info(f"training SentencePiece on {len(lines):,} of {len(texts):,} lines, evenly spread")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type=model_type,
        vocab_size=num_pieces,
        hard_vocab_limit=False,  # a small text may have fewer pieces
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        num_threads=1,  # another order of floating-point sums gives another model
        max_sentence_length=_MAX_LINE_BYTES,
        minloglevel=2,
    )
    return model.getvalue()


def sample_evenly(texts: Iterable[str], max_lines: int, max_characters: int) -> Sequence[str]:
    """Returns evenly spaced lines, at most these many lines and about these many characters.

    Texts of unknown number are read once, with at most twice as many lines in memory.

    Example:
      The lines "a", "b", "c", "d" with at most 2 lines give "a" and "c".
    """
    lines = texts if isinstance(texts, Sequence) else _thin_out(texts, 2 * max_lines, 2 * max_characters)
    count = min(len(lines), max_lines)
    indices = _spaced(len(lines), count)
    characters = sum(len(lines[i]) for i in indices)
    if characters > max_characters:
        count = max(1, count * max_characters // characters)
        indices = _spaced(len(lines), count)
    return lines if count == len(lines) else [lines[i] for i in indices]


def _spaced(size: int, count: int) -> list[int]:
    """Evenly spaced indices."""
    return (np.arange(count) * size // max(count, 1)).tolist()


def _thin_out(texts: Iterable[str], max_lines: int, max_characters: int) -> list[str]:
    """Keeps every line, then every second, every fourth, … so that no more than these stay in memory."""
    kept, stride, characters = list[str](), 1, 0
    for i, text in enumerate(texts):
        if i % stride:
            continue
        kept.append(text)
        characters += len(text)
        if len(kept) > 1 and (len(kept) > max_lines or characters > max_characters):
            kept, stride = kept[::2], 2 * stride
            characters = sum(map(len, kept))
    return kept
