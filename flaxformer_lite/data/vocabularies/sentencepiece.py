"""SentencePiece vocabularies (Kudo and Richardson 2018) that are trained here or read from a model file."""

from __future__ import annotations

import base64
import functools
import operator
from collections.abc import Iterable
from typing import Any, Literal, SupportsIndex

import sentencepiece

from flaxformer_lite.data.vocabularies.base import NUM_SPECIAL, SPECIAL, Vocabulary, special_token, until_end
from flaxformer_lite.data.vocabularies.sentencepiece_training import train_model

DEFAULT_SIZE = 8_000
_UNDERLINE = "▁"  # U+2581, which models have for a space
_WITHOUT_DUMMY_PREFIX = b"\x1a\x02\x18\x00"  # appended to a model, sets normalizer_spec.add_dummy_prefix to false


class SentencePieceVocabulary(Vocabulary):
    """The text pieces of a SentencePiece model in its order, after our special ids.

    Encoding loses nothing where the model has pieces of bytes and no normalization, as those that are trained here:
    U+2581, which would become a space, is encoded as its bytes.

    Args:
      model: the serialized model, as in a ``.model`` file. Its own control pieces (begin, end, padding) have no id.
    """

    def __init__(self, model: bytes):
        self.model = model
        self._processor = processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = text_pieces(processor)
        self._ids = [SPECIAL.unknown] * processor.get_piece_size()
        for i, piece in enumerate(pieces, start=NUM_SPECIAL):
            self._ids[piece] = i
        self._pieces = [processor.unk_id()] * NUM_SPECIAL + pieces
        self._underline = [processor.piece_to_id(f"<0x{byte:02X}>") for byte in _UNDERLINE.encode()]
        self._has_bytes = all(map(processor.is_byte, self._underline))

    @classmethod
    def train(
        cls, texts: Iterable[str], size: int, model_type: Literal["unigram", "bpe"] = "unigram", sample_size: int = 0
    ) -> SentencePieceVocabulary:
        """Trains a model on texts; see ``train_model``."""
        # The unknown piece of the model is one of our special ids.
        return cls(train_model(texts, size - NUM_SPECIAL + 1, model_type, sample_size))

    @property
    def size(self) -> int:
        return len(self._pieces)

    @property
    def special_separator(self) -> str:
        return " "

    def encode(self, text: str) -> list[int]:
        ids = self._ids
        return [ids[piece] for piece in self._encode(text)]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        return self._processor.decode([self._pieces[i] for i in until_end(ids)])

    def token(self, i: SupportsIndex) -> str:
        """Returns the piece; ``▁`` stands for a space, ``<0xE3>`` for a byte."""
        return special_token(i) or self._processor.id_to_piece(self._pieces[operator.index(i)])

    def unknown_tokens(self, text: str) -> list[str]:
        pieces = zip(self._processor.encode(text, out_type=str), self._processor.encode(text), strict=True)
        return [piece.strip(_UNDERLINE) or piece for piece, i in pieces if self._ids[i] == SPECIAL.unknown]

    def encode_word(self, word: str) -> list[int]:
        """Returns the ids of a space and what follows it up to the next one."""
        # Models that remove spaces at the ends of texts remove one that is alone.
        pieces = self._processor.encode(word[1:]) if len(word) > 1 else self._continuation_processor.encode(word)
        return [self._ids[piece] for piece in pieces]

    def nbest_of_word(self, word: str, count: int) -> list[tuple[int, ...]]:
        """Returns the ids of the likeliest segmentations of such a word under a unigram model."""
        found = self._processor.nbest_encode_as_ids(word[1:], nbest_size=count)
        return [tuple(self._ids[piece] for piece in pieces) for pieces in found]

    def bytes_of(self, text: str) -> list[int]:
        """Returns the ids of the bytes of a text; the unknown id for a model without pieces of bytes."""
        if not self._has_bytes:
            return [SPECIAL.unknown]
        return [self._ids[self._processor.piece_to_id(f"<0x{byte:02X}>")] for byte in text.encode()]

    @functools.cached_property
    def is_bpe(self) -> bool:
        """Whether this is a model of byte-pair encoding, whose scores are negated ranks, not log-probabilities."""
        return all(self.score(i).is_integer() for i in range(self.size))

    def score(self, i: SupportsIndex) -> float:
        """Returns the log-probability of a piece of a unigram model; 0 for special ids and bytes."""
        return 0.0 if i in SPECIAL else self._processor.get_score(self._pieces[operator.index(i)])

    def is_byte(self, i: SupportsIndex) -> bool:
        """Whether an id is that of a byte, which unigram models have no probability for."""
        return i not in SPECIAL and self._processor.is_byte(self._pieces[operator.index(i)])

    def to_json(self) -> dict[str, Any]:
        return {"kind": "sentencepiece", "model": base64.b64encode(self.model).decode()}

    def _encode(self, text: str) -> list[int]:
        """The pieces of a text."""
        if _UNDERLINE not in text or not self._has_bytes:
            return self._processor.encode(text)
        first, *others = text.split(_UNDERLINE)
        pieces = self._processor.encode(first)
        for other in others:
            pieces += self._underline + self._continuation_processor.encode(other)
        return pieces

    @functools.cached_property
    def _continuation_processor(self) -> sentencepiece.SentencePieceProcessor:
        """The processor of texts before which there is no space."""
        return sentencepiece.SentencePieceProcessor(model_proto=self.model + _WITHOUT_DUMMY_PREFIX)


def text_pieces(processor: sentencepiece.SentencePieceProcessor) -> list[int]:
    """The ids of a model's pieces that can occur in a text: all but control pieces and the unknown piece."""
    return [i for i in range(processor.get_piece_size()) if not (processor.is_control(i) or processor.is_unknown(i))]
