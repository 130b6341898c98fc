"""Vocabulary of integers, for sequences that are numbers already: quantized time series, codes of molecules."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

from flaxformer_lite.data.vocabularies.base import (
    NUM_SPECIAL,
    SPECIAL,
    UNKNOWN_CHARACTER,
    Vocabulary,
    special_token,
    until_end,
)


class IntegerVocabulary(Vocabulary):
    """Integers from 0 separated by white space, each at the id of its value plus the number of special ids.

    A word that is no such integer, or is one with a sign or with zeros before it, is unknown. Decoded integers are
    separated by one space.

    Args:
      size: number of ids: the largest integer is ``size - 1`` minus the number of special ids.

    Example:
      "3 17 5" has the ids 7, 21, 9.
    """

    def __init__(self, size: int):
        self._size = size

    @classmethod
    def build(cls, texts: Iterable[str]) -> IntegerVocabulary:
        """Makes the vocabulary of all integers up to the largest of texts.

        Raises:
          ValueError: a word is no integer from 0.
        """
        words = {word for text in texts for word in text.split()}
        if wrong := sorted(word for word in words if not _is_integer(word)):
            raise ValueError(wrong[0])
        return cls(NUM_SPECIAL + 1 + max(map(int, words), default=0))

    @property
    def size(self) -> int:
        return self._size

    @property
    def special_separator(self) -> str:
        return " "

    def encode(self, text: str) -> list[int]:
        return [int(word) + NUM_SPECIAL if self._is_known(word) else SPECIAL.unknown for word in text.split()]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        return " ".join(UNKNOWN_CHARACTER if i == SPECIAL.unknown else str(i - NUM_SPECIAL) for i in until_end(ids))

    def token(self, i: SupportsIndex) -> str:
        return special_token(i) or str(operator.index(i) - NUM_SPECIAL)

    def unknown_tokens(self, text: str) -> list[str]:
        return [word for word in text.split() if not self._is_known(word)]

    def to_json(self) -> dict[str, Any]:
        return {"kind": "ids", "size": self.size}

    def _is_known(self, word: str) -> bool:
        return _is_integer(word) and int(word) + NUM_SPECIAL < self._size


def _is_integer(word: str) -> bool:
    """Whether a word is how an integer from 0 is written: "10", not "010", "+1" or "１"."""
    return word.isascii() and word.isdigit() and (word == "0" or word[0] != "0") and len(word) <= 10
