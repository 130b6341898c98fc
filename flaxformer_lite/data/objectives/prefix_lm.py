"""Prefix language modeling (Raffel et al. 2020, section 3.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int64, UInt64

from flaxformer_lite.data.ragged import Pairs, Ragged
from flaxformer_lite.data.stateless_random import uniform
from flaxformer_lite.data.vocabularies.base import Vocabulary


@dataclass(frozen=True)
class PrefixLm:
    """Splits a text at a uniformly distributed place: the source is its beginning, the target its continuation.

    Both have at least one token; the source of a text of one token is empty.

    Example:
      A text ``10 11 12 13`` that is split after the third token gives the source ``10 11 12`` and the target ``13``.
    """

    def bind(self, vocabulary: Vocabulary) -> PrefixLm:
        del vocabulary
        return self

    def max_lengths(self, lengths: Int[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        longest = np.maximum(np.asarray(lengths, np.int64) - 1, 1)
        return longest, longest

    def __call__(self, texts: Ragged, keys: UInt64[np.ndarray, " n"]) -> Pairs:
        lengths = texts.lengths
        choices = np.maximum(lengths - 1, 0)
        split = np.minimum(1 + (uniform(keys, np.zeros(len(keys), np.int64)) * choices).astype(np.int64), choices)
        starts = texts.offsets[:-1]
        return Pairs(texts.slices(starts, split), texts.slices(starts + split, lengths - split))
