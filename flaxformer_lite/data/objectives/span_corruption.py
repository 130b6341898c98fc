"""Span corruption, the pre-training objective of T5 (Raffel et al. 2020, section 3.1.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Int64, UInt64

from flaxformer_lite.config.value_types import Bounds
from flaxformer_lite.data.objectives.special_tokens import find_sentinels
from flaxformer_lite.data.ragged import Pairs, Ragged, to_offsets
from flaxformer_lite.data.stateless_random import fold_in, random_subsets
from flaxformer_lite.data.vocabularies.base import Vocabulary


@dataclass(frozen=True)
class SpanCorruption:
    """Replaces random spans of a text by sentinels; the target consists of the sentinels, each before its span.

    Example:
      Of ten tokens ``10 … 19``, the noise tokens ``12 13`` and ``18`` give, with sentinels 99 and 98::

          source  10 11 99 14 15 16 17 98 19
          target  99 12 13 98 18

    Attributes:
      noise_density: the fraction of tokens in spans.
      mean_span_length: tokens per span; lengths are those of a random partition of the noise tokens.
    """

    noise_density: Annotated[float, Bounds(at_least=0.01, at_most=0.99)] = 0.15
    mean_span_length: Annotated[float, Bounds(at_least=1)] = 3.0

    def bind(self, vocabulary: Vocabulary) -> BoundSpanCorruption:
        return BoundSpanCorruption(self, find_sentinels(vocabulary, "span_corruption"))


@dataclass(frozen=True)
class BoundSpanCorruption:
    """Span corruption with the ids of a vocabulary."""

    config: SpanCorruption
    sentinels: Int32[np.ndarray, " k"]

    def max_lengths(self, lengths: Int[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        num_noise, num_spans = self._counts(lengths)
        return lengths - num_noise + num_spans, num_noise + num_spans

    def __call__(self, texts: Ragged, keys: UInt64[np.ndarray, " n"]) -> Pairs:
        noise = sample_noise(texts.lengths, *self._counts(texts.lengths), keys)
        return replace_spans(texts, noise, self.sentinels)

    def _counts(self, lengths: Int[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        density, mean = self.config.noise_density, self.config.mean_span_length
        return count_noise(lengths, density, mean, len(self.sentinels))


def count_noise(
    lengths: Int[np.ndarray, " n"],
    density: float | Float[np.ndarray, " n"],
    mean_span_length: float | Float[np.ndarray, " n"],
    max_spans: int,
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Returns the number of noise tokens and of noise spans of texts, as ``random_spans_noise_mask`` of T5 does.

    There are at most ``max_spans`` spans, and at most as many as other tokens; a text of one token has none.
    """
    lengths = np.asarray(lengths, np.int64)
    num_noise = np.clip(np.round(lengths * density).astype(np.int64), 1, np.maximum(lengths - 1, 1))
    num_spans = np.maximum(np.round(num_noise / mean_span_length).astype(np.int64), 1)
    num_spans = np.minimum(np.minimum(num_spans, lengths - num_noise), max_spans)
    is_long = lengths > 1
    return np.where(is_long, num_noise, 0), np.where(is_long, num_spans, 0)


def sample_noise(
    lengths: Int[np.ndarray, " n"],
    num_noise: Int[np.ndarray, " n"],
    num_spans: Int[np.ndarray, " n"],
    keys: UInt64[np.ndarray, " n"],
) -> Bool[np.ndarray, " tokens"]:
    """Samples which tokens are noise: other tokens and noise alternate, from random partitions of both.

    Args:
      lengths: of the texts.
      num_noise: noise tokens of each.
      num_spans: spans of each.
      keys: the randomness of each.

    Returns:
      Whether each token of all texts is noise. Every span is preceded by another token.
    """
    others = _partition(lengths - num_noise, num_spans, fold_in(keys, 0))
    noise = _partition(num_noise, num_spans, fold_in(keys, 1))
    in_order = np.stack([others, noise], axis=1).ravel()
    is_noise = np.zeros(lengths.sum(), bool)
    is_noise[np.repeat(num_spans > 0, lengths)] = np.repeat(np.arange(len(in_order)) % 2 == 1, in_order)
    return is_noise


def replace_spans(texts: Ragged, is_noise: Bool[np.ndarray, " tokens"], sentinels: Int32[np.ndarray, " k"]) -> Pairs:
    """Replaces each span of noise in the source by a sentinel; the target has the sentinels, each before its span."""
    follows_noise = np.concatenate([[False], is_noise[:-1]])
    follows_noise[texts.offsets[:-1][texts.lengths > 0]] = False
    is_start = is_noise & ~follows_noise
    spans_before = to_offsets(is_start)
    span = spans_before[:-1] - np.repeat(spans_before[texts.offsets[:-1]], texts.lengths)  # numbered within a row
    sentinel_of = sentinels[np.where(is_start, span, 0)]
    source = texts._replace(ids=np.where(is_start, sentinel_of, texts.ids)).keep(~is_noise | is_start)
    target_offsets = to_offsets(is_noise.astype(np.int64) + is_start)
    target = np.empty(target_offsets[-1], np.int32)
    target[target_offsets[1:][is_noise] - 1] = texts.ids[is_noise]
    target[target_offsets[1:][is_start] - 2] = sentinel_of[is_start]
    return Pairs(source, Ragged(target, target_offsets[texts.offsets]))


def _partition(
    totals: Int[np.ndarray, " n"], parts: Int[np.ndarray, " n"], keys: UInt64[np.ndarray, " n"]
) -> Int64[np.ndarray, " all_parts"]:
    """The sizes of uniformly distributed partitions of each total into positive parts; 0 parts of any total."""
    totals = np.where(parts > 0, totals, 0)
    cuts, rows = random_subsets(keys, np.maximum(totals - 1, 0), np.maximum(parts - 1, 0))
    offsets = to_offsets(totals)
    starts = np.sort(np.concatenate([offsets[:-1][totals > 0], offsets[:-1][rows] + cuts + 1]))
    return np.diff(np.append(starts, offsets[-1]))
