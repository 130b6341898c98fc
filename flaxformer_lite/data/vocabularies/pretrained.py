"""Vocabularies of published models, with the publisher's ids.

The special tokens around a text (language codes, begin and end tokens) are a ``TokenTemplate``, so a model's source and
target vocabularies can differ although they have the same tokens.
"""

from __future__ import annotations

import base64
import json
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, SupportsIndex

import sentencepiece

from flaxformer_lite.data.vocabularies.base import Vocabulary, byte_token
from flaxformer_lite.errors import InputError
from flaxformer_lite.types import SpecialIds

# The replacements of transformers' clean_up_tokenization.
_CLEAN_UP = (
    *((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m")),
    *((" 's", "'s"), (" 've", "'ve"), (" 're", "'re")),
)


_OBJECTIVE_TOKEN = re.compile(r"<extra_id_\d+>|<mask>")  # in models that have them as ordinary entries


class TokenTemplate(NamedTuple):
    """The special tokens of a vocabulary and those that surround every text.

    Attributes:
      special: the ids of special tokens.
      prefix_ids: ids before those of a text.
      suffix_ids: ids after them.
      skipped_ids: ids that decoded text leaves out, such as those of language codes.
      clean_up_spaces: whether decoded text loses spaces before punctuation (``clean_up_tokenization_spaces``).
    """

    special: SpecialIds
    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    skipped_ids: tuple[int, ...]
    clean_up_spaces: bool = False

    def to_json(self) -> dict[str, Any]:
        prefix, suffix, skipped = map(list, (self.prefix_ids, self.suffix_ids, self.skipped_ids))
        special = self.special._asdict()
        # The keys of files that earlier versions wrote.
        return {"special": special, "opening": prefix, "closing": suffix, "silent": skipped} | {
            "tidied": self.clean_up_spaces
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TokenTemplate:
        prefix, suffix, skipped = (tuple(values[key]) for key in ("opening", "closing", "silent"))
        return cls(SpecialIds(**values["special"]), prefix, suffix, skipped, values["tidied"])


class AddedToken(NamedTuple):
    """A token that is matched in text before the text is split into other tokens.

    Attributes:
      content: its text.
      id: its id.
      lstrip: whether white space before it belongs to it.
      rstrip: whether white space after it belongs to it.
    """

    content: str
    id: int
    lstrip: bool = False
    rstrip: bool = False


class PretrainedVocabulary(Vocabulary):
    """A vocabulary with a template of special tokens. Subclasses encode and decode text."""

    kind: str

    def __init__(self, size: int, template: TokenTemplate):
        self._size = size
        self.template = template
        self._skipped = frozenset((template.special.pad, template.special.begin, *template.skipped_ids))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PretrainedVocabulary:
        raise NotImplementedError

    @property
    def size(self) -> int:
        return self._size

    @property
    def special(self) -> SpecialIds:
        return self.template.special

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        return self.template.prefix_ids

    @property
    def suffix_ids(self) -> tuple[int, ...]:
        return self.template.suffix_ids

    @property
    def special_separator(self) -> str:
        return " "

    def with_template(self, template: TokenTemplate) -> PretrainedVocabulary:
        """Returns a vocabulary of the same tokens with another template."""
        return self.from_json(self.to_json() | {"frame": template.to_json()})

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "size": self.size, "frame": self.template.to_json()}

    def _clean_up(self, text: str) -> str:
        for spaced, joined in _CLEAN_UP if self.template.clean_up_spaces else ():
            text = text.replace(spaced, joined)
        return text

    def _text_ids(self, ids: Iterable[SupportsIndex]) -> Iterator[int]:
        """The ids of text: those after the begin id and before the end id that are not skipped."""
        for place, i in enumerate(map(operator.index, ids)):
            if i == self.special.end and (place or i != self.special.begin):
                return
            if i not in self._skipped:
                yield i


class _AddedTokensVocabulary(PretrainedVocabulary):
    """A vocabulary that matches added tokens before it splits the rest of a text."""

    def __init__(self, size: int, template: TokenTemplate, added: Sequence[AddedToken]):
        super().__init__(size, template)
        self._added = {token.content: token for token in added}
        longest_first = sorted(self._added, key=len, reverse=True)  # a shorter alternative would hide a longer one
        self._pattern = re.compile("|".join(_pattern(self._added[content]) for content in longest_first) or r"(?!)")

    def _split_added(self, text: str) -> Iterator[tuple[str, int]]:
        """The text between added tokens with -1, and added tokens with their ids."""
        end = 0
        for found in self._pattern.finditer(text):
            if found.start() > end:
                yield text[end : found.start()], -1
            yield found[0], self._added[found[0].strip()].id
            end = found.end()
        if end < len(text):
            yield text[end:], -1

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return {token.content: token.id for token in self._added.values() if token.id < self.size}

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"added": [list(token) for token in self._added.values()]}


class PretrainedSentencePieceVocabulary(_AddedTokensVocabulary):
    """A SentencePiece model with a table of ids.

    Args:
      model: the serialized model, as in a ``.model`` or ``.spm`` file.
      entries: the token of each id; there may be fewer than ``size``. Pieces without an entry are unknown.
      size: number of ids.
      template: the special tokens.
      added: tokens that are matched in text first.
    """

    kind = "pieces"

    def __init__(
        self,
        model: bytes,
        entries: Sequence[str],
        size: int,
        template: TokenTemplate,
        added: Sequence[AddedToken] = (),
    ):
        super().__init__(size, template, added)
        self.model = model
        self.entries = tuple(entries)
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self._ids = {entry: i for i, entry in enumerate(self.entries)}

    @property
    def special_tokens(self) -> Mapping[str, int]:
        named = {**super().special_tokens, **_objective_tokens(self._ids)}
        return {token: i for token, i in named.items() if i < self.size}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PretrainedVocabulary:
        model = base64.b64decode(values["model"], validate=True)
        return cls(model, values["entries"], *_common_values(values), _added_tokens(values))

    def encode(self, text: str) -> list[int]:
        return [i for _, i in self._tokenize(text)]

    def unknown_tokens(self, text: str) -> list[str]:
        return [piece.strip("▁") or piece for piece, i in self._tokenize(text) if i == self.special.unknown]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        pieces = [self.entries[i] for i in self._text_ids(ids) if i < len(self.entries)]
        return self._clean_up(self._processor.decode_pieces(pieces))

    def token(self, i: SupportsIndex) -> str:
        """Returns the piece; ``▁`` stands for a space."""
        return self.entries[operator.index(i)] if operator.index(i) < len(self.entries) else _unnamed(i)

    def to_json(self) -> dict[str, Any]:
        model = base64.b64encode(self.model).decode()
        return super().to_json() | {"model": model, "entries": list(self.entries)}

    def _tokenize(self, text: str) -> Iterator[tuple[str, int]]:
        get, unknown = self._ids.get, self.special.unknown
        for part, i in self._split_added(text):
            if i >= 0:
                yield part, i
            else:
                yield from ((piece, get(piece, unknown)) for piece in self._processor.encode(part, out_type=str))


class MarianVocabulary(PretrainedSentencePieceVocabulary):
    """A SentencePiece vocabulary for texts that can start with a target language code such as ``>>fra<<``."""

    kind = "coded pieces"

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        # Pieces of the other side's model alone are not decoded by this side's processor.
        return super().decode(ids).replace("▁", " ").strip()

    def _split_added(self, text: str) -> Iterator[tuple[str, int]]:
        for part, i in super()._split_added(text):
            end = part.find("<<") + 2
            if i < 0 and part.startswith(">>") and end >= 2:
                yield part[:end], self._ids.get(part[:end], self.special.unknown)
                part = part[end:]
            if part:
                yield part, i


class ByT5Vocabulary(_AddedTokensVocabulary):
    """The bytes of UTF-8 between special ids and sentinels, as in ByT5 (Xue et al. 2022).

    Args:
      offset: the id of byte 0.
      size: number of ids.
      template: the special tokens.
      added: tokens that are matched in text first.
    """

    kind = "offset bytes"

    def __init__(self, offset: int, size: int, template: TokenTemplate, added: Sequence[AddedToken]):
        super().__init__(size, template, added)
        self._offset = offset
        self._contents = {token.id: token.content for token in added}

    @property
    def special_separator(self) -> str:
        return ""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PretrainedVocabulary:
        return cls(values["offset"], *_common_values(values), _added_tokens(values))

    def encode(self, text: str) -> list[int]:
        parts = self._split_added(text)
        return [j for part, i in parts for j in ([byte + self._offset for byte in part.encode()] if i < 0 else [i])]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """Returns the text of bytes without what is not valid UTF-8, as the reference implementation does."""
        values = (i - self._offset for i in self._text_ids(ids))
        return self._clean_up(bytes(byte for byte in values if 0 <= byte < 256).decode(errors="ignore"))

    def token(self, i: SupportsIndex) -> str:
        if (i := operator.index(i)) in self._contents:
            return self._contents[i]
        byte = i - self._offset
        return byte_token(byte) if 0 <= byte < 256 else _unnamed(i)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"offset": self._offset}


class TokenizerJsonVocabulary(PretrainedVocabulary):
    """A ``tokenizer.json`` file, read by the package ``tokenizers``.

    Args:
      description: the text of the file.
      size: number of ids; the file may define fewer. Tokens with ids from ``size`` on are unknown.
      template: the special tokens; the file's own post-processor is not used.
    """

    kind = "tokenizer"

    def __init__(self, description: str, size: int, template: TokenTemplate):
        super().__init__(size, template)
        self.description = description
        self._tokenizer = read_tokenizer(description)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PretrainedVocabulary:
        return cls(json.dumps(values["description"], ensure_ascii=False), *_common_values(values))

    def encode(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [i if i < self.size else self.special.unknown for i in ids]

    @property
    def special_tokens(self) -> Mapping[str, int]:
        added = {token.content: i for i, token in self._tokenizer.get_added_tokens_decoder().items()}
        named = {**added, **_objective_tokens(self._tokenizer.get_vocab())}
        return {token: i for token, i in named.items() if i < self.size}

    def unknown_tokens(self, text: str) -> list[str]:
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        unknown = (i >= self.size or i == self.special.unknown for i in encoded.ids)
        return [
            text[start:end] for is_unknown, (start, end) in zip(unknown, encoded.offsets, strict=True) if is_unknown
        ]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        return self._clean_up(self._tokenizer.decode(list(self._text_ids(ids)), skip_special_tokens=True))

    def token(self, i: SupportsIndex) -> str:
        return self._tokenizer.id_to_token(operator.index(i)) or _unnamed(i)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"description": json.loads(self.description)}


def read_tokenizer(description: str) -> Any:
    """Makes the ``tokenizers.Tokenizer`` of a tokenizer.json file's text, without truncation and padding.

    Raises:
      InputError: the text cannot be read, or the package ``tokenizers`` is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise InputError(
            "tokenizer.json",
            "this vocabulary is read by the package `tokenizers`, which is not installed",
            "install it with pip install 'flaxformer-lite[tokenizers]'",
        ) from error
    try:
        tokenizer = Tokenizer.from_str(description)
    except Exception as error:  # the package raises plain exceptions
        raise InputError("tokenizer.json", f"the package `tokenizers` cannot read it: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


PRETRAINED: dict[str, type[PretrainedVocabulary]] = {
    vocabulary.kind: vocabulary
    for vocabulary in (
        PretrainedSentencePieceVocabulary,
        MarianVocabulary,
        ByT5Vocabulary,
        TokenizerJsonVocabulary,
    )
}


def _common_values(values: dict[str, Any]) -> tuple[int, TokenTemplate]:
    return values["size"], TokenTemplate.from_json(values["frame"])


def _added_tokens(values: dict[str, Any]) -> list[AddedToken]:
    return [AddedToken(*token) for token in values["added"]]


def _objective_tokens(ids: Mapping[str, int]) -> dict[str, int]:
    return {token: i for token, i in ids.items() if _OBJECTIVE_TOKEN.fullmatch(token)}


def _pattern(token: AddedToken) -> str:
    return r"\s*" * token.lstrip + re.escape(token.content) + r"\s*" * token.rstrip


def _unnamed(i: SupportsIndex) -> str:
    return f"<{operator.index(i)}>"
