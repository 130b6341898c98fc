"""Mixture of denoisers, the pre-training objective of UL2 (Tay et al. 2022, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int32, Int64, UInt64

from flaxformer_lite.data.objectives.span_corruption import count_noise, replace_spans, sample_noise
from flaxformer_lite.data.objectives.special_tokens import find_sentinels, find_token
from flaxformer_lite.data.ragged import Pairs, Ragged, join
from flaxformer_lite.data.stateless_random import fold_in, uniform
from flaxformer_lite.data.vocabularies.base import Vocabulary


@dataclass(frozen=True)
class Ul2:
    """Each example is corrupted by one of several denoisers, whose mode token is the first token of the source.

    Denoiser i corrupts spans (see ``SpanCorruption``) of ``mean_span_lengths[i]`` tokens with
    ``noise_densities[i]``. A mean span length of 0 is a sequential denoiser: one span of random length, with that
    density on average, at the end of the text. The defaults are the seven denoisers of UL2's table 1: R (regular),
    X (extreme) and S (sequential).

    Attributes:
      mean_span_lengths: tokens.
      noise_densities: fraction of noise tokens.
      mode_tokens: special tokens of the vocabulary; "" for none.
      rates: relative frequencies.
    """

    mean_span_lengths: tuple[float, ...] = (3.0, 8.0, 3.0, 8.0, 64.0, 64.0, 0.0)
    noise_densities: tuple[float, ...] = (0.15, 0.15, 0.5, 0.5, 0.15, 0.5, 0.25)
    mode_tokens: tuple[str, ...] = ("[NLU]", "[NLU]", "[NLG]", "[NLG]", "[NLG]", "[NLG]", "[S2S]")
    rates: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)

    def __post_init__(self):
        columns = self.mean_span_lengths, self.noise_densities, self.mode_tokens, self.rates
        if len({len(column) for column in columns}) != 1 or not self.rates:
            raise ValueError(f"all its fields must have one value per denoiser, got {columns}")
        if not all(length == 0 or length >= 1 for length in self.mean_span_lengths):
            raise ValueError(f"mean_span_lengths must be 0 or at least 1, got {self.mean_span_lengths}")
        if not all(0 < density < 1 for density in self.noise_densities):
            raise ValueError(f"noise_densities must be between 0 and 1, got {self.noise_densities}")
        if not all(rate > 0 for rate in self.rates):
            raise ValueError(f"rates must be positive, got {self.rates}")

    def bind(self, vocabulary: Vocabulary) -> BoundUl2:
        modes = [(find_token(vocabulary, mode, "ul2"),) if mode else () for mode in self.mode_tokens]
        return BoundUl2(self, tuple(modes), find_sentinels(vocabulary, "ul2"))


@dataclass(frozen=True)
class BoundUl2:
    """UL2's mixture of denoisers with the ids of a vocabulary."""

    config: Ul2
    modes: tuple[tuple[int, ...], ...]
    sentinels: Int32[np.ndarray, " k"]

    def max_lengths(self, lengths: Int[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        lengths = np.asarray(lengths, np.int64)
        sources, targets = [], []
        for i, mode in enumerate(self.modes):
            denoiser = np.full(len(lengths), i)
            for draw in (0.0, 1.0):  # the shortest and the longest span of a sequential denoiser
                num_noise, num_spans = self._counts(lengths, denoiser, np.full(len(lengths), draw))
                sources.append(len(mode) + lengths - num_noise + num_spans)
                targets.append(num_noise + num_spans)
        return np.max(sources, axis=0), np.max(targets, axis=0)

    def __call__(self, texts: Ragged, keys: UInt64[np.ndarray, " n"]) -> Pairs:
        zeros = np.zeros(len(keys), np.int64)
        bounds = np.cumsum(self.config.rates) / np.sum(self.config.rates)
        denoiser = np.searchsorted(bounds[:-1], uniform(fold_in(keys, 2), zeros), side="right")
        counts = self._counts(texts.lengths, denoiser, uniform(fold_in(keys, 3), zeros))
        source, target = replace_spans(texts, sample_noise(texts.lengths, *counts, keys), self.sentinels)
        mode_ids = Ragged(
            np.array([i for mode in self.modes for i in mode], np.int32),
            np.cumsum([0, *map(len, self.modes)], dtype=np.int64),
        ).take(np.where(texts.lengths > 0, denoiser, -1))
        return Pairs(join([mode_ids, source]), target)

    def _counts(
        self, lengths: Int64[np.ndarray, " n"], denoiser: Int[np.ndarray, " n"], draw: Float64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Noise tokens and spans of each text; ``draw`` in [0, 1] is the length of a sequential denoiser's span."""
        density = np.array(self.config.noise_densities)[denoiser]
        mean = np.array(self.config.mean_span_lengths)[denoiser]
        num_noise, num_spans = count_noise(lengths, density, np.maximum(mean, 1), len(self.sentinels))
        longest = np.clip(np.round(2 * density * lengths).astype(np.int64) - 1, 1, np.maximum(lengths - 1, 1))
        sequential = np.minimum(1 + (draw * longest).astype(np.int64), longest)
        is_sequential = (mean == 0) & (lengths > 1)
        return np.where(is_sequential, sequential, num_noise), np.where(is_sequential, 1, num_spans)
