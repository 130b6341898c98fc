"""Subword regularization: random segmentations of a text, each a function of a key.

SentencePiece's own sampler has one random generator for the whole process, so its results depend on what was sampled
before. Here words are sampled one by one, each among few segmentations, which are computed once and kept.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flaxformer_lite.data.stateless_random import make_keys, uniform
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.data.vocabularies.extended import without_extension
from flaxformer_lite.data.vocabularies.sentencepiece import SentencePieceVocabulary
from flaxformer_lite.errors import InputError

_NUM_CANDIDATES = 16  # segmentations of a word
_MAX_WORD = 200  # characters; longer words, such as texts without spaces, are not sampled
_CACHED_WORDS = 50_000
_WORD = re.compile(" [^ ]*")


class _Candidates(NamedTuple):
    """Segmentations of a word, the one of ``encode`` first, and their cumulative probabilities."""

    segmentations: Sequence[Sequence[int]]
    cumulative: Sequence[float]


class SubwordSampler:
    """Random segmentations under a SentencePiece model.

    A unigram model samples among the 16 likeliest segmentations of each word, with probabilities proportional to
    P(segmentation)^strength (Kudo 2018). A BPE model leaves out each merge with probability ``strength`` (BPE-dropout,
    Provilkov et al. 2020); each word has 16 such segmentations.

    Args:
      vocabulary: the vocabulary; texts with special tokens are segmented as by its ``encode``.
      base: the same without special tokens that extend it.
      strength: at most 1. Unigram: the smaller, the more uniform; 1: as the model. BPE: 0: as ``encode``.
    """

    def __init__(self, vocabulary: Vocabulary, base: SentencePieceVocabulary, strength: float):
        self._encode = vocabulary.encode
        self._tokens = tuple(token for token in vocabulary.special_tokens)
        self._vocabulary = vocabulary = base
        self._strength = strength
        self._pieces = {vocabulary.token(i): i for i in range(len(vocabulary.special), vocabulary.size)}
        self._ranks = {piece: -vocabulary.score(i) for piece, i in self._pieces.items() if not vocabulary.is_byte(i)}
        self._candidates = functools.lru_cache(_CACHED_WORDS)(self._find_candidates)

    def sample(self, text: str, key: np.uint64, room: int) -> list[int]:
        """Returns ids of a text, a function of the text and the key.

        Args:
          text: the text.
          key: of ``stateless_random``.
          room: how many ids more than those of ``encode`` there may be; words that have no room stay as they are.
        """
        if "▁" in text or not text or any(token in text for token in self._tokens):
            return self._encode(text)
        words = _WORD.findall(f" {text}")
        draws = uniform(np.full(len(words), key), np.arange(len(words)))
        ids: list[int] = []
        for word, draw in zip(words, draws.tolist(), strict=True):
            segmentations, cumulative = self._candidates(word)
            chosen = segmentations[bisect.bisect_right(cumulative, draw, hi=len(cumulative) - 1)]
            if (more := len(chosen) - len(segmentations[0])) > room:
                chosen, more = segmentations[0], 0
            room -= more
            ids += chosen
        return ids

    def _find_candidates(self, word: str) -> _Candidates:
        best = tuple(self._vocabulary.encode_word(word))
        if not 1 < len(word) <= _MAX_WORD:
            return _Candidates((best,), (1.0,))
        if self._vocabulary.is_bpe:
            keys, count = make_keys(zlib.crc32(word.encode()), np.arange(_NUM_CANDIDATES)), len(word) ** 2
            draws = uniform(np.repeat(keys, count), np.tile(np.arange(count), _NUM_CANDIDATES))
            drawn = [self._merge(word, row) for row in draws.reshape(_NUM_CANDIDATES, count).tolist()]
            return _Candidates((best, *drawn), (0.0, *(i / _NUM_CANDIDATES for i in range(1, _NUM_CANDIDATES + 1))))
        others = [ids for ids in self._vocabulary.nbest_of_word(word, _NUM_CANDIDATES) if ids != best]
        segmentations = (best, *others[: _NUM_CANDIDATES - 1])
        scores = [self._strength * sum(map(self._vocabulary.score, ids)) for ids in segmentations]
        weights = [math.exp(score - max(scores)) for score in scores]
        return _Candidates(segmentations, [sum_ / sum(weights) for sum_ in itertools.accumulate(weights)])

    def _merge(self, word: str, draws: Sequence[float]) -> tuple[int, ...]:
        """Merges the characters of a word, in the order of the pieces' ranks, with dropout.

        Each of at most n merges looks at fewer than n pairs of n characters, and needs a draw for each.
        """
        symbols, keep = list("▁" + word[1:]), iter(draws)
        while True:
            pairs = (left + right for left, right in itertools.pairwise(symbols))
            merges = [(self._ranks[pair], place) for place, pair in enumerate(pairs) if pair in self._ranks]
            merges = [merge for merge in merges if next(keep) >= self._strength]
            if not merges:
                break
            _, place = min(merges)
            symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
        ids: list[int] = []
        for symbol in symbols:
            ids += [self._pieces[symbol]] if symbol in self._pieces else self._vocabulary.bytes_of(symbol)
        return tuple(ids)


def make_sampler(vocabulary: Vocabulary, strength: float, key: str) -> SubwordSampler:
    """Makes the sampler of a vocabulary; ``key`` is the config key of ``strength``.

    Raises:
      InputError: the vocabulary has no SentencePiece model.
    """
    base = without_extension(vocabulary)
    if not isinstance(base, SentencePieceVocabulary):
        reason = "only a SentencePiece vocabulary has several segmentations of a text"
        raise InputError(f"{key}={strength}", reason, "set it to 0, or the vocabulary's kind to 'sentencepiece'")
    return SubwordSampler(vocabulary, base, strength)
