"""Text to token ids and back: bytes, characters, words, SentencePiece."""

from __future__ import annotations

import base64
import binascii
import io
import json
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Protocol, SupportsIndex, runtime_checkable

import sentencepiece

from flaxformer_lite.config.dataclasses import VocabularyConfig
from flaxformer_lite.data.vocabularies import pretrained
from flaxformer_lite.errors import InputError
from flaxformer_lite.types import SpecialIds

SPECIAL = SpecialIds(pad=0, end=1, begin=2, unknown=3)
UNKNOWN_SIGN = "\N{REPLACEMENT CHARACTER}"  # what an unknown id is shown as in decoded text

_FIRST = len(SPECIAL)  # the first id that stands for text
_DEFAULT_PIECES = 8_000
_MAX_SENTENCE_BYTES = 1_000_000  # SentencePiece leaves longer lines out of its training


@runtime_checkable  # so that signatures with it can be checked in tests
class Vocabulary(Protocol):
    """Turns text into ids and back.

    The special ids of those that are built here are ``SPECIAL``; published ones (``published``) have their own.
    """

    @property
    def special(self) -> SpecialIds:
        """The ids with a meaning of their own."""
        ...

    @property
    def opening(self) -> tuple[int, ...]:
        """What comes before the ids of every text. A search says these of a target's tokens without being asked."""
        ...

    @property
    def closing(self) -> tuple[int, ...]:
        """What comes after the ids of every text: of a target, the end id."""
        ...

    @property
    def size(self) -> int:
        """Number of ids, special ones included: every id is below it."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special ones except for what is unknown."""
        ...

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of ids: ends before the first end id, leaves out pad and begin."""
        ...

    def token(self, i: SupportsIndex) -> str:
        """How one id alone is written, which loses nothing: special ones as ``<end>``, blanks as the entry has them."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain values of which ``from_json`` makes the same vocabulary."""
        ...


class ByteVocabulary:
    """The bytes of UTF-8. Nothing is unknown to it."""

    special = SPECIAL
    opening = ()
    closing = (SPECIAL.end,)
    size = _FIRST + 256

    def encode(self, text: str) -> list[int]:
        """Each byte, shifted behind the special ids."""
        return [byte + _FIRST for byte in text.encode()]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of bytes; what is not UTF-8 is shown by the replacement character."""
        unknown = UNKNOWN_SIGN.encode()
        data = b"".join(unknown if i == SPECIAL.unknown else bytes([i - _FIRST]) for i in _until_end(ids))
        return data.decode(errors="replace")

    def token(self, i: SupportsIndex) -> str:
        """A printable character of ASCII as it is, another byte as ``<0xE3>``."""
        if special := _special_token(i):
            return special
        byte = operator.index(i) - _FIRST
        return chr(byte) if byte < 128 and chr(byte).isprintable() else f"<0x{byte:02X}>"

    def to_json(self) -> dict[str, Any]:
        """There is only one."""
        return {"kind": "byte"}


class _TableVocabulary:
    """A table of entries; the place of an entry is its id. Subclasses say what an entry is."""

    special = SPECIAL
    opening = ()
    closing = (SPECIAL.end,)
    kind: ClassVar[str]
    separator: ClassVar[str]

    def __init__(self, entries: Sequence[str]):
        self.entries = tuple(entries)
        self._ids = {entry: i for i, entry in enumerate(self.entries, start=_FIRST)}

    @staticmethod
    def split(text: str) -> list[str]:
        raise NotImplementedError

    @property
    def size(self) -> int:
        return _FIRST + len(self.entries)

    def encode(self, text: str) -> list[int]:
        get = self._ids.get
        return [get(entry, SPECIAL.unknown) for entry in self.split(text)]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        return self.separator.join(
            UNKNOWN_SIGN if i == SPECIAL.unknown else self.entries[i - _FIRST] for i in _until_end(ids)
        )

    def token(self, i: SupportsIndex) -> str:
        return _special_token(i) or self.entries[operator.index(i) - _FIRST]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "entries": list(self.entries)}


class CharacterVocabulary(_TableVocabulary):
    """Each Unicode character by itself, blanks too."""

    kind = "character"
    separator = ""

    @staticmethod
    def split(text: str) -> list[str]:
        """The characters of a text."""
        return list(text)


class WordVocabulary(_TableVocabulary):
    """What stands between white space. Decoded words are joined by one blank."""

    kind = "word"
    separator = " "

    @staticmethod
    def split(text: str) -> list[str]:
        """The words of a text."""
        return text.split()


class SentencePieceVocabulary:
    """The pieces of a SentencePiece model that stand for text, in its order, behind our special ids.

    Args:
      model: the serialized model, as in a ``.model`` file. Its own control pieces (begin, end, padding) get no id.
    """

    special = SPECIAL
    opening = ()
    closing = (SPECIAL.end,)

    def __init__(self, model: bytes):
        self._model = model
        self._processor = processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [
            i for i in range(processor.get_piece_size()) if not (processor.is_control(i) or processor.is_unknown(i))
        ]
        self._ids = [SPECIAL.unknown] * processor.get_piece_size()
        for i, piece in enumerate(pieces, start=_FIRST):
            self._ids[piece] = i
        self._pieces = [processor.unk_id()] * _FIRST + pieces

    @property
    def size(self) -> int:
        """Special ids and pieces."""
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """The most likely pieces."""
        ids = self._ids
        return [ids[piece] for piece in self._processor.encode(text)]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of pieces, blanks as SentencePiece puts them."""
        return self._processor.decode([self._pieces[i] for i in _until_end(ids)])

    def token(self, i: SupportsIndex) -> str:
        """The piece, as ``▁the`` where a blank comes before it and ``<0xE3>`` for a byte."""
        return _special_token(i) or self._processor.id_to_piece(self._pieces[operator.index(i)])

    def score(self, i: SupportsIndex) -> float:
        """The log-probability that the model gives a piece; 0 of special ids."""
        return 0.0 if i in SPECIAL else self._processor.get_score(self._pieces[operator.index(i)])

    def to_json(self) -> dict[str, Any]:
        """The whole model, as base64."""
        return {"kind": "sentencepiece", "model": base64.b64encode(self._model).decode()}


def build(config: VocabularyConfig, texts: Iterable[str]) -> Vocabulary:
    """Makes the vocabulary of a training text.

    Entries are ordered by frequency, those of equal frequency by code point, so the same text always gives the same
    ids.

    Raises:
      InputError: the size cannot be kept, or the SentencePiece model cannot be read.
    """
    match config.kind:
        case "byte":
            _require_size(config, ByteVocabulary.size)
            return ByteVocabulary()
        case "character":
            return CharacterVocabulary(_most_frequent(config, CharacterVocabulary.split, texts))
        case "word":
            return WordVocabulary(_most_frequent(config, WordVocabulary.split, texts))
        case "sentencepiece":
            return _read_sentencepiece(config) if config.model else _train_sentencepiece(config, texts)
        case "saved":
            return read_saved(Path(config.model).expanduser())


def read_saved(path: Path) -> Vocabulary:
    """A vocabulary from the file that it is kept in, such as ``source.vocabulary.json`` of a work folder.

    Raises:
      InputError: there is no such file, or something else in it.
    """
    try:
        return from_json(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(
            f"model='{path}' cannot be read as a saved vocabulary ({error}); name the .vocabulary.json of a work "
            "folder; where that was moved, config.data.source_vocabulary.model and its like must name the new place"
        ) from error


def difference(theirs: Vocabulary, ours: Vocabulary) -> str:
    """In what two vocabularies differ, in a few words; nothing where they are the same."""
    there, here = theirs.to_json(), ours.to_json()
    if there == here:
        return ""
    if there["kind"] != here["kind"]:
        return f"{there['kind']} there, {here['kind']} here"
    if theirs.size != ours.size:
        return f"{theirs.size:,} entries there, {ours.size:,} here"
    pairs = zip_longest(there.get("entries", ()), here.get("entries", ()))
    differing = [f"{one!r} there stands where {other!r} stands here" for one, other in pairs if one != other]
    if not differing and there | {"frame": ""} == here | {"frame": ""}:
        return f"{there['frame']} there, {here['frame']} here"
    return differing[0] if differing else f"another {there['kind']} model"


def from_json(values: dict[str, Any]) -> Vocabulary:
    """The vocabulary that ``to_json`` was called on.

    Raises:
      InputError: the values are not those of a vocabulary.
    """
    try:
        match values:
            case {"kind": "byte"}:
                return ByteVocabulary()
            case {"kind": "character", "entries": entries}:
                return CharacterVocabulary(entries)
            case {"kind": "word", "entries": entries}:
                return WordVocabulary(entries)
            case {"kind": "sentencepiece", "model": model}:
                return SentencePieceVocabulary(base64.b64decode(model, validate=True))
        if found := pretrained.from_json(values):
            return found
    except (RuntimeError, TypeError, KeyError, ValueError, binascii.Error) as error:
        raise InputError(f"the saved vocabulary is damaged: {error}") from error
    raise InputError(f"this is not a saved vocabulary: {str(values)[:100]}")


def _special_token(i: SupportsIndex) -> str:
    """What a special id is written as; nothing for any other."""
    return f"<{SpecialIds._fields[SPECIAL.index(i)]}>" if i in SPECIAL else ""


def _until_end(ids: Iterable[SupportsIndex]) -> Iterator[int]:
    for i in map(operator.index, ids):
        if i == SPECIAL.end:
            return
        if i not in (SPECIAL.pad, SPECIAL.begin):
            yield i


def _require_size(config: VocabularyConfig, smallest: int) -> None:
    if 0 < config.size < smallest:
        raise InputError(
            f"a {config.kind} vocabulary has at least {smallest} entries, {_FIRST} special ones included: "
            f"size={config.size} is too small; 0 means as many as needed"
        )


def _most_frequent(config: VocabularyConfig, split: Callable[[str], list[str]], texts: Iterable[str]) -> list[str]:
    _require_size(config, _FIRST + 1)
    counts = Counter(entry for text in texts for entry in split(text))
    entries = sorted(counts, key=lambda entry: (-counts[entry], entry))
    return entries[: config.size - _FIRST] if config.size else entries


def _read_sentencepiece(config: VocabularyConfig) -> SentencePieceVocabulary:
    try:
        vocabulary = SentencePieceVocabulary(Path(config.model).expanduser().read_bytes())
    except (OSError, RuntimeError) as error:
        raise InputError(f"model={config.model!r} cannot be read as a SentencePiece model: {error}") from error
    if 0 < config.size < vocabulary.size:
        raise InputError(
            f"model={config.model!r} has {vocabulary.size} entries, {_FIRST} special ones included, more than "
            f"size={config.size}; set size to 0"
        )
    return vocabulary


def _train_sentencepiece(config: VocabularyConfig, texts: Iterable[str]) -> SentencePieceVocabulary:
    """Trains a unigram model that loses nothing: text is not normalized, and rare characters are spelt as bytes."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=(config.size or _DEFAULT_PIECES) - _FIRST + 1,  # its unknown piece is one of our special ids
            hard_vocab_limit=False,  # a small text may have fewer pieces
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,  # sums in another order would give another model
            max_sentence_length=_MAX_SENTENCE_BYTES,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2] or str(error)  # without the place in SentencePiece's own source
        raise InputError(
            f"no SentencePiece vocabulary of size={config.size or _DEFAULT_PIECES} could be trained: {reason}"
        ) from error
    return SentencePieceVocabulary(model.getvalue())
