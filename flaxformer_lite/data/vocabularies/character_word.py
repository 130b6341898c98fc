"""Character and word vocabularies: tables of the most frequent entries of the training text."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, SupportsIndex

from flaxformer_lite.data.vocabularies.base import (
    NUM_SPECIAL,
    SPECIAL,
    UNKNOWN_CHARACTER,
    Vocabulary,
    special_token,
    until_end,
)


class _TableVocabulary(Vocabulary):
    """A table of entries whose ids follow the special ids. Subclasses define how a text is split into entries."""

    kind: ClassVar[str]
    separator: ClassVar[str]

    def __init__(self, entries: Sequence[str]):
        self.entries = tuple(entries)
        self._ids = {entry: i for i, entry in enumerate(self.entries, start=NUM_SPECIAL)}

    @classmethod
    def build(cls, texts: Iterable[str], size: int) -> _TableVocabulary:
        """Makes the vocabulary of the most frequent entries of texts.

        Args:
          texts: the training text.
          size: number of ids at most; 0: no limit. Ties in frequency are ordered by code point, so that the same text
            always gives the same ids.
        """
        counts = Counter(entry for text in texts for entry in cls.split(text))
        entries = sorted(counts, key=lambda entry: (-counts[entry], entry))
        return cls(entries[: size - NUM_SPECIAL] if size else entries)

    @staticmethod
    def split(text: str) -> list[str]:
        raise NotImplementedError

    @property
    def size(self) -> int:
        return NUM_SPECIAL + len(self.entries)

    @property
    def special_separator(self) -> str:
        return self.separator

    def encode(self, text: str) -> list[int]:
        get = self._ids.get
        return [get(entry, SPECIAL.unknown) for entry in self.split(text)]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        return self.separator.join(
            UNKNOWN_CHARACTER if i == SPECIAL.unknown else self.entries[i - NUM_SPECIAL] for i in until_end(ids)
        )

    def token(self, i: SupportsIndex) -> str:
        return special_token(i) or self.entries[operator.index(i) - NUM_SPECIAL]

    def unknown_tokens(self, text: str) -> list[str]:
        return [entry for entry in self.split(text) if entry not in self._ids]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "entries": list(self.entries)}


class CharacterVocabulary(_TableVocabulary):
    """Unicode characters, white space included."""

    kind = "character"
    separator = ""

    @staticmethod
    def split(text: str) -> list[str]:
        return list(text)


class WordVocabulary(_TableVocabulary):
    """Words separated by white space; decoded words are joined by one space."""

    kind = "word"
    separator = " "

    @staticmethod
    def split(text: str) -> list[str]:
        return text.split()
