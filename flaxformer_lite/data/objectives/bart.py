"""Denoising of corrupted text, the pre-training objective of BART (Lewis et al. 2020, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt64
from scipy.special import pdtr  # the cumulative distribution function of the Poisson distribution

from flaxformer_lite.config.value_types import Bounds, Fraction, Rate
from flaxformer_lite.data.objectives.special_tokens import ends_sentence, find_token
from flaxformer_lite.data.ragged import Pairs, Ragged, to_offsets
from flaxformer_lite.data.stateless_random import fold_in, random_bits, random_subsets, uniform
from flaxformer_lite.data.vocabularies.base import Vocabulary


@dataclass(frozen=True)
class Bart:
    """The source is a corrupted text, the target the original text.

    Corruptions are applied in this order: sentences are permuted, spans are infilled, tokens are masked, tokens are
    deleted, the text is rotated. The defaults are those of BART large: infilling and sentence permutation.

    Attributes:
      infilling_rate: the fraction of tokens in spans, each of which is replaced by one mask token.
      mean_span_length: of the Poisson distribution of their lengths; a span of length 0 inserts a mask token.
      permute_sentences: whether sentences are put in random order. A sentence ends after a token with one of . ! ? at
        its end.
      masking_rate: the fraction of tokens that are replaced by a mask token each.
      deletion_rate: the fraction of tokens that are deleted.
      rotation_rate: the fraction of texts that are rotated to begin with a random token.
      mask_token: a special token of the vocabulary.
    """

    infilling_rate: Rate = 0.3
    mean_span_length: Annotated[float, Bounds(at_least=0.1)] = 3.0
    permute_sentences: bool = True
    masking_rate: Rate = 0.0
    deletion_rate: Rate = 0.0
    rotation_rate: Fraction = 0.0
    mask_token: str = "<mask>"

    def bind(self, vocabulary: Vocabulary) -> BoundBart:
        return BoundBart(self, find_token(vocabulary, self.mask_token, "bart"), ends_sentence(vocabulary))


@dataclass(frozen=True)
class BoundBart:
    """BART's corruptions with the ids of a vocabulary."""

    config: Bart
    mask: int
    ends_sentence: Bool[np.ndarray, " v"]

    def max_lengths(self, lengths: Int[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        return np.asarray(lengths, np.int64), np.asarray(lengths, np.int64)

    def __call__(self, texts: Ragged, keys: UInt64[np.ndarray, " n"]) -> Pairs:
        config, source = self.config, texts
        if config.permute_sentences:
            source = permute_sentences(source, self.ends_sentence, fold_in(keys, 0))
        if config.infilling_rate:
            source = infill(source, config.infilling_rate, config.mean_span_length, self.mask, fold_in(keys, 1))
        if config.masking_rate:
            masked = _choose(source, config.masking_rate, fold_in(keys, 2))
            source = source._replace(ids=np.where(masked, np.int32(self.mask), source.ids))
        if config.deletion_rate:
            source = source.keep(~_choose(source, config.deletion_rate, fold_in(keys, 3)))
        if config.rotation_rate:
            source = rotate(source, config.rotation_rate, fold_in(keys, 4))
        return Pairs(source, texts)


def permute_sentences(texts: Ragged, ends_sentence: Bool[np.ndarray, " v"], keys: UInt64[np.ndarray, " n"]) -> Ragged:
    """Puts the sentences of each text in random order.

    Args:
      texts: the texts.
      ends_sentence: whether each id ends a sentence; the last token of a text does.
      keys: the randomness of each text.

    Example:
      With an id 9 that ends sentences, ``1 9 2 3 9 4`` may become ``4 1 9 2 3 9``.
    """
    is_last = ends_sentence[texts.ids]
    is_last[texts.offsets[1:][texts.lengths > 0] - 1] = True
    ends = np.flatnonzero(is_last) + 1
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    rows = texts.rows[starts]
    order = np.lexsort((random_bits(keys[rows], starts - texts.offsets[rows]), rows))
    sentences = texts.slices(starts[order], (ends - starts)[order])
    return texts._replace(ids=sentences.ids)


def infill(texts: Ragged, rate: float, mean_span_length: float, mask: int, keys: UInt64[np.ndarray, " n"]) -> Ragged:
    """Replaces random spans, with lengths from a Poisson distribution, by one mask token each (text infilling).

    Spans do not overlap; together they have ``⌈rate · length⌉`` tokens, the last one is cut to that. Spans of length 0
    insert a mask token, in a text that becomes no longer than it was.

    Args:
      texts: the texts.
      rate: the fraction of tokens in spans.
      mean_span_length: tokens.
      mask: the id of the mask token.
      keys: the randomness of each text.

    Example:
      With mask 9, ``1 2 3 4 5 6`` may become ``1 9 4 5 6`` or, with a span of length 0, ``1 9 4 9 5 6``.
    """
    lengths = texts.lengths
    row_of_span, span_lengths = _draw_spans(np.ceil(rate * lengths).astype(np.int64), mean_span_length, keys)
    num_spans = np.bincount(row_of_span, minlength=len(lengths))
    num_noise = np.bincount(row_of_span, span_lengths, minlength=len(lengths)).astype(np.int64)
    # Spans and the other tokens in random order: a random subset of the places are spans.
    slots = Ragged(np.zeros(0, np.int32), to_offsets(lengths - num_noise + num_spans))
    place, rows = random_subsets(fold_in(keys, 1), slots.lengths, num_spans)
    widths = np.ones(slots.offsets[-1], np.int64)  # the tokens of the text that each place stands for
    is_span = np.zeros(slots.offsets[-1], bool)
    is_span[slots.offsets[rows] + place] = True
    widths[is_span] = span_lengths
    starts = to_offsets(widths)[:-1]
    ids = np.full(len(widths), mask, np.int32)
    ids[~is_span] = texts.ids[starts[~is_span]]
    return Ragged(ids, slots.offsets, texts.num_protected_tail)


def rotate(texts: Ragged, rate: float, keys: UInt64[np.ndarray, " n"]) -> Ragged:
    """Rotates a fraction of the texts to begin with a uniformly distributed token.

    Example:
      ``1 2 3 4`` may become ``3 4 1 2``.
    """
    zeros, lengths = np.zeros(len(keys), np.int64), texts.lengths
    start = (uniform(fold_in(keys, 0), zeros) * lengths).astype(np.int64)
    start = np.where(uniform(fold_in(keys, 1), zeros) < rate, start, 0)
    column = (texts.columns + np.repeat(start, lengths)) % np.maximum(np.repeat(lengths, lengths), 1)
    return texts._replace(ids=texts.ids[np.repeat(texts.offsets[:-1], lengths) + column])


def _draw_spans(
    budgets: Int64[np.ndarray, " n"], mean: float, keys: UInt64[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, " spans"], Int64[np.ndarray, " spans"]]:
    """Draws lengths of spans for each row until they add up to its budget; returns row and length of each span.

    At most as many spans are drawn as the budget has tokens, and as many of length 0 are left as other spans save
    tokens, so that mask tokens do not lengthen a text.
    """
    draws = Ragged(np.zeros(0, np.int32), to_offsets(budgets))
    rows = np.repeat(np.arange(len(budgets)), budgets)
    index = np.arange(len(rows)) - draws.offsets[rows]
    table = pdtr(np.arange(int(mean + 20 * (1 + mean**0.5))), mean)
    lengths = np.searchsorted(table, uniform(keys[rows], index), side="right")
    before = _cumulated(lengths, draws.offsets, rows) - lengths
    lengths = np.minimum(lengths, budgets[rows] - before)
    is_used = before < budgets[rows]
    rows, lengths = rows[is_used], lengths[is_used]
    offsets = to_offsets(np.bincount(rows, minlength=len(budgets)))
    saved = np.bincount(rows, np.maximum(lengths - 1, 0), minlength=len(budgets)).astype(np.int64)
    is_kept = (lengths > 0) | (_cumulated((lengths == 0).astype(np.int64), offsets, rows) <= saved[rows])
    return rows[is_kept], lengths[is_kept]


def _cumulated(
    values: Int64[np.ndarray, " m"], offsets: Int64[np.ndarray, " n_and_one"], rows: Int64[np.ndarray, " m"]
) -> Int64[np.ndarray, " m"]:
    """The sum of values up to each of them within its row."""
    sums = to_offsets(values)
    return sums[1:] - sums[offsets[rows]]


def _choose(texts: Ragged, rate: float, keys: UInt64[np.ndarray, " n"]) -> Bool[np.ndarray, " tokens"]:
    """Chooses ``round(rate · length)`` random tokens of each text."""
    chosen, rows = random_subsets(keys, texts.lengths, np.round(rate * texts.lengths).astype(np.int64))
    result = np.zeros(len(texts.ids), bool)
    result[texts.offsets[rows] + chosen] = True
    return result
