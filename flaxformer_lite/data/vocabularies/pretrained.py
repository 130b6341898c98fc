"""Vocabularies as others have published them: their ids are the publisher's, special ones and all.

What surrounds a text (language codes, begin and end tokens) is a ``Frame``, and so the vocabulary of a model's sources
may differ from that of its targets though both know the same tokens.
"""

from __future__ import annotations

import base64
import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, SupportsIndex

import sentencepiece

from flaxformer_lite.errors import InputError
from flaxformer_lite.types import SpecialIds

_TIDY = (
    *((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m")),
    *((" 's", "'s"), (" 've", "'ve"), (" 're", "'re")),
)


class Frame(NamedTuple):
    """What belongs to ids beside the text.

    Attributes:
      special: the ids with a meaning of their own.
      opening: ids before those of a text.
      closing: ids after them.
      silent: ids that decoded text leaves out, such as those of languages.
      tidied: whether decoded text loses the blanks before punctuation, as the publisher's settings may ask.
    """

    special: SpecialIds
    opening: tuple[int, ...]
    closing: tuple[int, ...]
    silent: tuple[int, ...]
    tidied: bool = False


class Added(NamedTuple):
    """A token that is found in text as it is written, before anything else is.

    Attributes:
      text: how it is written.
      id: what it becomes.
      takes_left: whether blanks before it belong to it.
      takes_right: whether blanks behind it do.
    """

    text: str
    id: int
    takes_left: bool = False
    takes_right: bool = False


class _Framed:
    """What all published vocabularies share. Subclasses make ids of text, and text of ids."""

    def __init__(self, size: int, frame: Frame):
        self.size = size
        self.frame = frame
        self._silent = frozenset((frame.special.pad, frame.special.begin, *frame.silent))

    @property
    def special(self) -> SpecialIds:
        return self.frame.special

    @property
    def opening(self) -> tuple[int, ...]:
        return self.frame.opening

    @property
    def closing(self) -> tuple[int, ...]:
        return self.frame.closing

    def framed(self, frame: Frame) -> Any:
        """The same tokens in another frame."""
        return from_json(self.to_json() | {"frame": _plain(frame)})

    def to_json(self) -> dict[str, Any]:
        return {"size": self.size, "frame": _plain(self.frame)}

    def _finished(self, text: str) -> str:
        """Decoded text as the publisher shows it."""
        for loose, tight in _TIDY if self.frame.tidied else ():
            text = text.replace(loose, tight)
        return text

    def _said(self, ids: Iterable[SupportsIndex]) -> Iterator[int]:
        """Those that stand for text: from behind the begin token to before the end."""
        for place, i in enumerate(map(operator.index, ids)):
            if i == self.special.end and (place or i != self.special.begin):
                return
            if i not in self._silent:
                yield i


class _WithAdded(_Framed):
    """A vocabulary in whose texts added tokens are looked for first."""

    def __init__(self, size: int, frame: Frame, added: Sequence[Added]):
        super().__init__(size, frame)
        self._added = {token.text: token for token in added}
        by_length = sorted(self._added, key=len, reverse=True)  # or one would hide another that it begins
        self._pattern = re.compile("|".join(map(_as_found, map(self._added.__getitem__, by_length))) or r"(?!)")

    def _parts(self, text: str) -> Iterator[tuple[str, int]]:
        """The text between added tokens with -1, and added tokens with their ids."""
        end = 0
        for found in self._pattern.finditer(text):
            if found.start() > end:
                yield text[end : found.start()], -1
            yield found[0], self._added[found[0].strip()].id
            end = found.end()
        if end < len(text):
            yield text[end:], -1

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"added": [list(token) for token in self._added.values()]}


class PieceVocabulary(_WithAdded):
    """A SentencePiece model whose pieces a table gives their ids.

    Args:
      model: the serialized model, as in a ``.model`` or ``.spm`` file.
      entries: the token of each id; there may be fewer than ``size``. A piece that is not among them is unknown.
      size: number of ids.
      frame: see ``Frame``.
      added: tokens that are found in text first.
    """

    kind = "pieces"

    def __init__(self, model: bytes, entries: Sequence[str], size: int, frame: Frame, added: Sequence[Added] = ()):
        super().__init__(size, frame, added)
        self.model = model
        self.entries = tuple(entries)
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self._ids = {entry: i for i, entry in enumerate(self.entries)}

    def encode(self, text: str) -> list[int]:
        """The most likely pieces."""
        get, unknown, ids = self._ids.get, self.special.unknown, []
        for part, i in self._parts(text):
            ids += [get(piece, unknown) for piece in self._processor.encode(part, out_type=str)] if i < 0 else [i]
        return ids

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of pieces, blanks as SentencePiece puts them."""
        pieces = [self.entries[i] for i in self._said(ids) if i < len(self.entries)]
        return self._finished(self._processor.decode_pieces(pieces))

    def token(self, i: SupportsIndex) -> str:
        """The piece, as ``▁the`` where a blank comes before it."""
        return self.entries[operator.index(i)] if operator.index(i) < len(self.entries) else _nameless(i)

    def to_json(self) -> dict[str, Any]:
        """The whole model, as base64, and the table."""
        model = base64.b64encode(self.model).decode()
        return {"kind": self.kind, "model": model, "entries": list(self.entries), **super().to_json()}


class CodedVocabulary(PieceVocabulary):
    """Pieces of texts that may open with a code, such as ``>>fra<<``, which tells Marian's models a language."""

    kind = "coded pieces"

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of pieces; of those that are of the other side's model alone, too."""
        return super().decode(ids).replace("▁", " ").strip()

    def _parts(self, text: str) -> Iterator[tuple[str, int]]:
        for part, i in super()._parts(text):
            end = part.find("<<") + 2
            if i < 0 and part.startswith(">>") and end >= 2:
                yield part[:end], self._ids.get(part[:end], self.special.unknown)
                part = part[end:]
            if part:
                yield part, i


class OffsetByteVocabulary(_WithAdded):
    """The bytes of UTF-8 behind a number of special ids, and further ids behind them, as ByT5 has them.

    Args:
      offset: the id of byte 0.
      size: number of ids.
      frame: see ``Frame``.
      added: tokens that are found in text first.
    """

    def __init__(self, offset: int, size: int, frame: Frame, added: Sequence[Added]):
        super().__init__(size, frame, added)
        self._offset = offset
        self._written = {token.id: token.text for token in added}

    def encode(self, text: str) -> list[int]:
        """Each byte, behind the special ids."""
        parts = self._parts(text)
        return [j for part, i in parts for j in ([byte + self._offset for byte in part.encode()] if i < 0 else [i])]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of bytes; what is not UTF-8 is left out, as the publisher does."""
        said = (i - self._offset for i in self._said(ids))
        return self._finished(bytes(byte for byte in said if 0 <= byte < 256).decode(errors="ignore"))

    def token(self, i: SupportsIndex) -> str:
        """A printable character of ASCII as it is, another byte as ``<0xE3>``."""
        if (i := operator.index(i)) in self._written:
            return self._written[i]
        byte = i - self._offset
        if not 0 <= byte < 256:
            return _nameless(i)
        return chr(byte) if byte < 128 and chr(byte).isprintable() else f"<0x{byte:02X}>"

    def to_json(self) -> dict[str, Any]:
        """Where bytes lie, and what lies around them."""
        return {"kind": "offset bytes", "offset": self._offset, **super().to_json()}


class TokenizerVocabulary(_Framed):
    """A ``tokenizer.json`` file, read by the package ``tokenizers``.

    Args:
      description: what is in the file.
      size: number of ids; the file may know fewer.
      frame: see ``Frame``; the file's own post-processor is not asked.
    """

    def __init__(self, description: str, size: int, frame: Frame):
        super().__init__(size, frame)
        self.description = description
        self._tokenizer = read_tokenizer(description)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; those that the model has no vectors of are unknown."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [i if i < self.size else self.special.unknown for i in ids]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of tokens, but for special ones."""
        return self._finished(self._tokenizer.decode(list(self._said(ids)), skip_special_tokens=True))

    def token(self, i: SupportsIndex) -> str:
        """The token as the file has it."""
        return self._tokenizer.id_to_token(operator.index(i)) or _nameless(i)

    def to_json(self) -> dict[str, Any]:
        """The whole file."""
        return {"kind": "tokenizer", "description": json.loads(self.description), **super().to_json()}


def read_tokenizer(description: str) -> Any:
    """The ``tokenizers.Tokenizer`` of a ``tokenizer.json`` file's text, set to cut and to pad nothing.

    Raises:
      InputError: it cannot be read, or the package is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise InputError(
            "this vocabulary is a tokenizer.json, which the package `tokenizers` reads: install it with "
            "pip install 'flaxformer-lite[tokenizers]'"
        ) from error
    try:
        tokenizer = Tokenizer.from_str(description)
    except Exception as error:  # the package raises nothing more exact
        raise InputError(f"tokenizer.json cannot be read by the package `tokenizers`: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def from_json(values: dict[str, Any]) -> PieceVocabulary | OffsetByteVocabulary | TokenizerVocabulary | None:
    """The vocabulary that ``to_json`` was called on; None where it was none of these.

    Raises:
      InputError: see ``read_tokenizer``.
    """
    make: dict[str, Callable[..., Any]] = {
        kind.kind: lambda size, frame, kind=kind: kind(
            base64.b64decode(values["model"], validate=True), values["entries"], size, frame, _added(values)
        )
        for kind in (PieceVocabulary, CodedVocabulary)
    } | {
        "offset bytes": lambda size, frame: OffsetByteVocabulary(values["offset"], size, frame, _added(values)),
        "tokenizer": lambda size, frame: TokenizerVocabulary(
            json.dumps(values["description"], ensure_ascii=False), size, frame
        ),
    }
    if values.get("kind") not in make:
        return None
    special, opening, closing, silent, tidied = values["frame"].values()
    frame = Frame(SpecialIds(**special), tuple(opening), tuple(closing), tuple(silent), tidied)
    return make[values["kind"]](values["size"], frame)


def _added(values: dict[str, Any]) -> list[Added]:
    return [Added(*token) for token in values["added"]]


def _plain(frame: Frame) -> dict[str, Any]:
    opening, closing, silent = map(list, (frame.opening, frame.closing, frame.silent))
    plain = {"special": frame.special._asdict(), "opening": opening, "closing": closing, "silent": silent}
    return plain | {"tidied": frame.tidied}


def _as_found(token: Added) -> str:
    return r"\s*" * token.takes_left + re.escape(token.text) + r"\s*" * token.takes_right


def _nameless(i: SupportsIndex) -> str:
    return f"<{operator.index(i)}>"
