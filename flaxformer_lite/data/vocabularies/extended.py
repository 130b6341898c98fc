"""Vocabularies that are extended by named special tokens of objectives: sentinels, masks, modes."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

from flaxformer_lite.config.dataclasses import VocabularyConfig
from flaxformer_lite.data.vocabularies.base import SENTINEL, Vocabulary
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.types import SpecialIds


class ExtendedVocabulary(Vocabulary):
    """A vocabulary with named special tokens, whose ids follow all others; the ids of other tokens stay.

    A special token that is spelled in a text is that token. Where tokens imply the spaces around them (words,
    SentencePiece), there is one space on either side of it in decoded text, and one that is in the text belongs to it:
    "the <mask> dog" has the tokens "▁the", "<mask>", "▁dog", as has "the<mask>dog".

    Args:
      base: the vocabulary that is extended.
      tokens: the special tokens, distinct and none of the vocabulary.

    Example:
      With 260 ids and the tokens ("<mask>", "<extra_id_1>", "<extra_id_0>"), "<mask>" is 260 and "<extra_id_0>" 262.
    """

    def __init__(self, base: Vocabulary, tokens: Sequence[str]):
        self.base = base
        self.tokens = tuple(tokens)
        self._ids = {token: i for i, token in enumerate(self.tokens, start=base.size)}
        self._pattern = re.compile(f"({_alternatives(self.tokens)})")

    @classmethod
    def from_json(cls, base: Vocabulary, values: Mapping[str, Any]) -> ExtendedVocabulary:
        return cls(base, values["tokens"])

    def to_json(self) -> dict[str, Any]:
        return {"kind": "extended", "base": self.base.to_json(), "tokens": list(self.tokens)}

    @property
    def special(self) -> SpecialIds:
        return self.base.special

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        return self.base.prefix_ids

    @property
    def suffix_ids(self) -> tuple[int, ...]:
        return self.base.suffix_ids

    @property
    def size(self) -> int:
        return self.base.size + len(self.tokens)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return {**self.base.special_tokens, **self._ids}

    @property
    def special_separator(self) -> str:
        return self.base.special_separator

    def encode(self, text: str) -> list[int]:
        ids = []
        for part in self._split(text):
            ids += [self._ids[part]] if part in self._ids else self.base.encode(part)
        return ids

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        texts, run = [], []
        special = self.special
        for place, i in enumerate(map(operator.index, ids)):
            if i == special.end and (place or i != special.begin):
                break
            if i < self.base.size:
                run.append(i)
            else:
                texts += [self.base.decode(run), self.tokens[i - self.base.size]]
                run = []
        texts.append(self.base.decode(run))
        return self.special_separator.join(filter(None, texts))

    def token(self, i: SupportsIndex) -> str:
        place = operator.index(i) - self.base.size
        return self.base.token(i) if place < 0 else self.tokens[place]

    def unknown_tokens(self, text: str) -> list[str]:
        return [
            token for part in self._split(text) if part not in self._ids for token in self.base.unknown_tokens(part)
        ]

    def _split(self, text: str) -> list[str]:
        """The special tokens of a text and the texts between them, without the separators of special tokens."""
        parts = self._pattern.split(text)  # special tokens are those with odd indices
        for place in range(0, len(parts), 2):
            part = parts[place].removeprefix(self.special_separator) if place else parts[place]
            parts[place] = part.removesuffix(self.special_separator) if place + 1 < len(parts) else part
        return [part for part in parts if part]


def without_extension(vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary that is extended; the vocabulary itself where it is not."""
    return vocabulary.base if isinstance(vocabulary, ExtendedVocabulary) else vocabulary


def extension_tokens(config: VocabularyConfig) -> tuple[str, ...]:
    """The special tokens that a config adds: its own in their order, then sentinels so that the first has the last id.

    Example:
      ``special_tokens=("<mask>",)`` and ``num_sentinels=2`` give ("<mask>", "<extra_id_1>", "<extra_id_0>").
    """
    return (*config.special_tokens, *(SENTINEL.format(i) for i in reversed(range(config.num_sentinels))))


def check_tokens(config: VocabularyConfig, key: str) -> None:
    """Raises ``InputError`` for a special token that is empty, surrounded by white space or there twice."""
    subject, tokens = f"{key}.special_tokens={config.special_tokens}", extension_tokens(config)
    for token in config.special_tokens:
        is_plain = bool(token) and token == token.strip()
        require(is_plain, subject, f"{token!r} is empty or is surrounded by white space")
        require(tokens.count(token) == 1, subject, f"{token!r} is there twice, or a sentinel of {key}.num_sentinels")


def texts_between(texts: Iterable[str], tokens: Sequence[str]) -> Iterable[str]:
    """The texts between special tokens, of which the vocabulary is built that they extend."""
    if not tokens:
        return texts
    pattern = re.compile(_alternatives(tokens))
    parts = (part for text in texts for part in pattern.split(text))
    return list(parts) if isinstance(texts, Sequence) else parts


def extend_vocabulary(base: Vocabulary, config: VocabularyConfig, key: str) -> Vocabulary:
    """Adds the special tokens of a config to a vocabulary; one that is saved with them stays as it is.

    Args:
      base: the vocabulary.
      config: names the tokens.
      key: the config key of ``config``, for error messages.

    Raises:
      InputError: the vocabulary has one of the tokens already.
    """
    tokens = extension_tokens(config)
    if not tokens or (isinstance(base, ExtendedVocabulary) and base.tokens == tokens):
        return base
    present = {base.token(i) for i in range(base.size)} | set(base.special_tokens)
    if there := [token for token in tokens if token in present]:
        is_own = there[0] in config.special_tokens
        raise InputError(
            f"{key}.special_tokens={config.special_tokens}"
            if is_own
            else f"{key}.num_sentinels={config.num_sentinels}",
            f"the vocabulary of kind {config.kind!r} has the token {there[0]!r} already",
            "leave it out",
        )
    return ExtendedVocabulary(base, tokens)


def _alternatives(tokens: Sequence[str]) -> str:
    """The regular expression of any of these tokens."""
    return "|".join(map(re.escape, sorted(tokens, key=len, reverse=True)))  # a shorter one would hide a longer one
