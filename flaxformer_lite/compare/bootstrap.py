"""Paired bootstrap test of the difference between two systems (Koehn 2004)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from flaxformer_lite.metrics.error_rates import References, error_counts
from flaxformer_lite.metrics.sacrebleu import corpus_metric, transpose_references

RESAMPLES = 1000
_SEED = 12345  # sacreBLEU's


class BootstrapResult(NamedTuple):
    """Score of one system and its difference to the first one.

    Attributes:
      score: on all sources.
      mean: over resamples of the sources.
      half_width: the central 95 % of the resamples lie within ``mean`` ± this, computed as in sacreBLEU.
      p_value: probability of the observed difference to the first system under the null hypothesis: the fraction of
        resamples whose difference exceeds the mean one by more than the observed one (sacreBLEU's one-sided formula);
        1 where there is no difference, NaN for the first system.
    """

    score: float
    mean: float
    half_width: float
    p_value: float


def paired_bootstrap(
    metric: str, systems: Sequence[Sequence[str]], references: References, resamples: int = RESAMPLES
) -> list[BootstrapResult]:
    """Tests each system against the first; BLEU and chrF use sacreBLEU's implementation.

    Each system has one hypothesis per source. Samples of the sources, with replacement, are the same for all systems.
    """
    test = _sacrebleu_test if metric in ("bleu", "chrf") else _counts_test
    results = test(metric, systems, references, resamples)
    # sacreBLEU's formula gives a small p-value for equal scores; the null hypothesis cannot be rejected there.
    return [
        result._replace(p_value=1.0) if i and result.score == results[0].score else result
        for i, result in enumerate(results)
    ]


def _sacrebleu_test(
    metric: str, systems: Sequence[Sequence[str]], references: References, resamples: int
) -> list[BootstrapResult]:
    from sacrebleu.significance import PairedTest  # here, because sacreBLEU takes 0.2 s to import

    named: Any = [(str(i), list(hypotheses)) for i, hypotheses in enumerate(systems)]
    scorer, by_rank = {metric: corpus_metric(metric)}, transpose_references(references)
    _, found = PairedTest(named, scorer, by_rank, test_type="bs", n_samples=resamples)()
    results: list[Any] = next(column for heading, column in found.items() if heading != "System")
    p_values = [math.nan, *(result.p_value for result in results[1:])]
    return [
        BootstrapResult._make(map(float, (r.score, r.mean, r.ci, p))) for r, p in zip(results, p_values, strict=True)
    ]


def _counts_test(
    metric: str, systems: Sequence[Sequence[str]], references: References, resamples: int
) -> list[BootstrapResult]:
    """The test for metrics that are a ratio of sums over sources."""
    from sacrebleu.significance import estimate_ci  # here, because sacreBLEU takes 0.2 s to import

    counts = np.array([error_counts(metric, hypotheses, references) for hypotheses in systems], np.float64)
    scores = _scores(counts.sum(axis=1))
    samples = _resample(counts, resamples)
    differences = np.abs(samples - samples[:, :1])
    extreme = (differences - differences.mean(axis=0) > np.abs(scores - scores[0])).sum(axis=0)
    p_values = (extreme + 1) / (resamples + 1)
    p_values[0] = math.nan
    means, half_widths = zip(*map(estimate_ci, samples.T), strict=True)
    return [BootstrapResult._make(map(float, row)) for row in zip(scores, means, half_widths, p_values, strict=True)]


def _resample(counts: Float[np.ndarray, "systems sources 2"], resamples: int) -> Float[np.ndarray, "resamples systems"]:
    """The score of each system on each resample of the sources."""
    rng = np.random.default_rng(_SEED)
    size = counts.shape[1]
    # The number of times each source is drawn, times its counts, gives the sums of a resample without a gather.
    times = (np.bincount(rng.integers(size, size=size), minlength=size) for _ in range(resamples))
    return np.stack([_scores(np.einsum("n,snc->sc", drawn, counts)) for drawn in times])


def _scores(sums: Float[np.ndarray, "systems 2"]) -> Float[np.ndarray, "systems"]:
    return 100 * sums[:, 0] / np.maximum(sums[:, 1], 1)
