"""SentencePiece vocabularies (Kudo and Richardson 2018) that are trained here or read from a model file."""

from __future__ import annotations

import base64
import io
import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

import sentencepiece

from flaxformer_lite.data.vocabularies.base import NUM_SPECIAL, SPECIAL, Vocabulary, special_token, until_end

DEFAULT_SIZE = 8_000
_MAX_SENTENCE_BYTES = 1_000_000  # the trainer skips longer lines


class SentencePieceVocabulary(Vocabulary):
    """The text pieces of a SentencePiece model in its order, after our special ids.

    Args:
      model: the serialized model, as in a ``.model`` file. Its own control pieces (begin, end, padding) have no id.
    """

    def __init__(self, model: bytes):
        self._model = model
        self._processor = processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = text_pieces(processor)
        self._ids = [SPECIAL.unknown] * processor.get_piece_size()
        for i, piece in enumerate(pieces, start=NUM_SPECIAL):
            self._ids[piece] = i
        self._pieces = [processor.unk_id()] * NUM_SPECIAL + pieces

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> SentencePieceVocabulary:
        """Trains a unigram model without text normalization that splits rare characters into bytes.

        Raises:
          RuntimeError: SentencePiece cannot train a model of this size.
        """
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size - NUM_SPECIAL + 1,  # the model's unknown piece is one of our special ids
            hard_vocab_limit=False,  # a small text may have fewer pieces
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,  # another order of floating-point sums gives another model
            max_sentence_length=_MAX_SENTENCE_BYTES,
            minloglevel=2,
        )
        return cls(model.getvalue())

    @property
    def size(self) -> int:
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        ids = self._ids
        return [ids[piece] for piece in self._processor.encode(text)]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        return self._processor.decode([self._pieces[i] for i in until_end(ids)])

    def token(self, i: SupportsIndex) -> str:
        """Returns the piece; ``▁`` stands for a space, ``<0xE3>`` for a byte."""
        return special_token(i) or self._processor.id_to_piece(self._pieces[operator.index(i)])

    def unknown_tokens(self, text: str) -> list[str]:
        pieces = zip(self._processor.encode(text, out_type=str), self.encode(text), strict=True)
        return [piece.strip("▁") or piece for piece, i in pieces if i == SPECIAL.unknown]

    def score(self, i: SupportsIndex) -> float:
        """Returns the unigram log-probability of a piece; 0 for special ids."""
        return 0.0 if i in SPECIAL else self._processor.get_score(self._pieces[operator.index(i)])

    def to_json(self) -> dict[str, Any]:
        return {"kind": "sentencepiece", "model": base64.b64encode(self._model).decode()}


def text_pieces(processor: sentencepiece.SentencePieceProcessor) -> list[int]:
    """The ids of a model's pieces that can occur in a text: all but control pieces and the unknown piece."""
    return [i for i in range(processor.get_piece_size()) if not (processor.is_control(i) or processor.is_unknown(i))]
