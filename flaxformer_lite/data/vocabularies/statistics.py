"""How a vocabulary splits a text: tokens per character and per word, unknown and most frequent tokens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.data.vocabularies.sentencepiece import SentencePieceVocabulary
from flaxformer_lite.data.vocabularies.sentencepiece_training import sample_evenly

_MAX_LINES, _MAX_CHARACTERS = 10_000, 2_000_000  # that are measured
_MAX_PROBABILITY = 0.5  # of one piece of a usable unigram model


class VocabularyStatistics(NamedTuple):
    """Counts over a sample of text.

    Attributes:
      lines: of the sample.
      words: between white space.
      characters: white space included.
      num_bytes: of UTF-8.
      tokens: without prefix and suffix ids.
      unknown: tokens that are the unknown id.
      top: the ids of the most frequent tokens with their share of all tokens, in decreasing order.
    """

    lines: int
    words: int
    characters: int
    num_bytes: int
    tokens: int
    unknown: int
    top: tuple[tuple[int, float], ...]


def measure(vocabulary: Vocabulary, texts: Iterable[str], num_top: int = 10) -> VocabularyStatistics:
    """Encodes up to 10,000 evenly spaced lines of a text and counts their tokens."""
    sample = sample_evenly(texts, _MAX_LINES, _MAX_CHARACTERS)
    counts = Counter(i for text in sample for i in vocabulary.encode(text))
    tokens = counts.total()
    return VocabularyStatistics(
        lines=len(sample),
        words=sum(len(text.split()) for text in sample),
        characters=sum(map(len, sample)),
        num_bytes=sum(len(text.encode()) for text in sample),
        tokens=tokens,
        unknown=counts[vocabulary.special.unknown],
        top=tuple((i, count / tokens) for i, count in counts.most_common(num_top)),
    )


def describe_degeneration(vocabulary: SentencePieceVocabulary, statistics: VocabularyStatistics) -> str:
    """Describes why a trained SentencePiece model is of no use for this text; "" if it is usable.

    Training of a unigram model can fail silently: one piece gets nearly all of the probability, and texts are split
    into characters.
    """
    per_character = statistics.tokens / max(statistics.characters, 1)
    if statistics.tokens >= statistics.num_bytes + statistics.lines:  # of which each line has a space before it
        return f"it has {per_character:.2f} tokens per character, no fewer than a byte vocabulary"
    pieces = [i for i in range(vocabulary.size) if i not in vocabulary.special and not vocabulary.is_byte(i)]
    top = max(pieces, key=vocabulary.score)
    probability = math.exp(vocabulary.score(top))
    if not vocabulary.is_bpe and probability > _MAX_PROBABILITY and per_character > 0.5:
        shares = f"has probability {probability:.3f}, and there are {per_character:.2f} tokens per character"
        return f"the piece {vocabulary.token(top)!r} {shares}"
    return ""
