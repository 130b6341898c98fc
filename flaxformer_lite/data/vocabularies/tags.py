"""Vocabulary of tag bundles and characters, for inflection and similar tasks."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, SupportsIndex

from flaxformer_lite.data.vocabularies.base import (
    NUM_SPECIAL,
    SPECIAL,
    UNKNOWN_CHARACTER,
    Vocabulary,
    special_token,
    until_end,
)


class Unit(NamedTuple):
    """A tag or a character of a text; the tag "V" and the character "V" are two units."""

    text: str
    is_tag: bool


class TagVocabulary(Vocabulary):
    """Tags of bundles such as V;SBJV;PL as whole tokens, and the characters of all other text.

    The separator has no token: decoded text has it between two tags that follow each other.

    Args:
      units: the units in the order of their ids, after the special ids.
      pattern: regular expression of the bundles in a text; "": words, between white space, that contain the separator.
      separator: what separates the tags of a bundle.

    Example:
      "run V;PST" has the tokens "r", "u", "n", " ", "[V]", "[PST]".
    """

    def __init__(self, units: Sequence[Unit], pattern: str, separator: str):
        self.units = tuple(units)
        self.pattern = pattern
        self.separator = separator
        self._ids = {unit: i for i, unit in enumerate(self.units, start=NUM_SPECIAL)}
        self._bundle = re.compile(pattern or rf"(?<!\S)\S*{re.escape(separator)}\S*")

    @classmethod
    def build(cls, texts: Iterable[str], size: int, pattern: str, separator: str) -> TagVocabulary:
        """Makes the vocabulary of the most frequent tags and characters; ``size`` as for a character vocabulary.

        Raises:
          re.error: the pattern is no regular expression.
        """
        splitter = cls((), pattern, separator)
        counts = Counter(unit for text in texts for unit in splitter.split(text))
        units = sorted(counts, key=lambda unit: (-counts[unit], unit))
        return cls(units[: size - NUM_SPECIAL] if size else units, pattern, separator)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TagVocabulary:
        units = [Unit(text, is_tag) for text, is_tag in values["entries"]]
        return cls(units, values["pattern"], values["separator"])

    def to_json(self) -> dict[str, Any]:
        entries = [list(unit) for unit in self.units]
        return {"kind": "tags", "entries": entries, "pattern": self.pattern, "separator": self.separator}

    @property
    def size(self) -> int:
        return NUM_SPECIAL + len(self.units)

    def split(self, text: str) -> list[Unit]:
        """Returns the units of a text."""
        units, end = [], 0
        for found in self._bundle.finditer(text):
            # A bundle right after another one would be decoded as the same bundle, so it is split into characters.
            if found[0] and (found.start() > end or not units):
                units += [Unit(character, False) for character in text[end : found.start()]]
                units += [Unit(tag, True) for tag in found[0].split(self.separator)]
                end = found.end()
        return units + [Unit(character, False) for character in text[end:]]

    def encode(self, text: str) -> list[int]:
        get = self._ids.get
        return [get(unit, SPECIAL.unknown) for unit in self.split(text)]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        text, follows_tag = "", False
        for i in until_end(ids):
            unit = Unit(UNKNOWN_CHARACTER, False) if i == SPECIAL.unknown else self.units[i - NUM_SPECIAL]
            text += (self.separator if unit.is_tag and follows_tag else "") + unit.text
            follows_tag = unit.is_tag
        return text

    def token(self, i: SupportsIndex) -> str:
        """Returns the character, or the tag in brackets."""
        if token := special_token(i):
            return token
        unit = self.units[operator.index(i) - NUM_SPECIAL]
        return f"[{unit.text}]" if unit.is_tag else unit.text

    def unknown_tokens(self, text: str) -> list[str]:
        return [unit.text for unit in self.split(text) if unit not in self._ids]
