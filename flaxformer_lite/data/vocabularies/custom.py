"""Vocabularies of classes outside of this package (``kind="module:name"``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, SupportsIndex

from flaxformer_lite.config import import_path
from flaxformer_lite.config.dataclasses import VocabularyConfig
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.types import SpecialIds


class VocabularyFactory(Protocol):
    """The interface of the dataclass that an import path names; its fields are the options of the vocabulary.

    It may implement ``Vocabulary`` too, and return itself.
    """

    def build(self, texts: Iterable[str]) -> Vocabulary:
        """Makes the vocabulary of a training text."""
        ...

    def from_json(self, values: dict[str, Any]) -> Vocabulary:
        """Makes the vocabulary whose ``to_json`` gave these values."""
        ...


class CustomVocabulary(Vocabulary):
    """A vocabulary of a user's class, saved together with its import path and options."""

    def __init__(self, kind: str, options: Mapping[str, Any], vocabulary: Any):
        reason = f"{type(vocabulary).__name__} lacks methods of {Vocabulary.__module__}.Vocabulary"
        require(isinstance(vocabulary, Vocabulary), kind, reason)
        self.kind = kind
        self.options = dict(options)
        self.vocabulary: Vocabulary = vocabulary

    @classmethod
    def build(cls, config: VocabularyConfig, texts: Iterable[str], key: str) -> CustomVocabulary:
        """Builds the vocabulary of a training text; ``key`` is the config key of its kind."""
        unused = {"size": config.size, "model": config.model}
        require(not any(unused.values()), f"{key}={config.kind!r}", f"it uses its options only, not {unused}")
        factory: VocabularyFactory = import_path.build(config.kind, config.options, key.removeprefix("config."))
        return cls(config.kind, config.options, factory.build(texts))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> CustomVocabulary:
        kind, options = values["kind"], values["options"]
        try:
            factory: VocabularyFactory = import_path.build(kind, options, "data.vocabulary.kind")
        except InputError as error:
            raise error.with_subject(f"the saved vocabulary of kind {kind!r}") from error
        return cls(kind, options, factory.from_json(values["state"]))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "options": self.options, "state": self.vocabulary.to_json()}

    @property
    def special(self) -> SpecialIds:
        return self.vocabulary.special

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        return self.vocabulary.prefix_ids

    @property
    def suffix_ids(self) -> tuple[int, ...]:
        return self.vocabulary.suffix_ids

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return self.vocabulary.special_tokens

    @property
    def special_separator(self) -> str:
        return self.vocabulary.special_separator

    @property
    def size(self) -> int:
        return self.vocabulary.size

    def encode(self, text: str) -> list[int]:
        return self.vocabulary.encode(text)

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        return self.vocabulary.decode(ids)

    def token(self, i: SupportsIndex) -> str:
        return self.vocabulary.token(i)

    def unknown_tokens(self, text: str) -> list[str]:
        return self.vocabulary.unknown_tokens(text)
