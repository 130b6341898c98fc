"""Whether one system's decodes are better than another's by more than chance: paired bootstrap (Koehn 2004)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from flaxformer_lite.metrics.error_rates import References, error_counts
from flaxformer_lite.metrics.sacrebleu import corpus_metric, transpose_references

RESAMPLES = 1000
_SEED = 12345  # sacreBLEU's own


class Verdict(NamedTuple):
    """A metric of one system, and how it stands to the first one.

    Attributes:
      score: on all sources.
      mean: over resamples of the sources.
      half_width: the middle 95 % of the resamples lie within ``mean`` ± this, as sacreBLEU reckons it.
      p_value: how often chance alone would bring the difference to the first system: the share of resamples whose
        difference exceeds the mean one by more than what was observed (sacreBLEU's formula, which looks at one side);
        1 where there is no difference, NaN of the first system itself.
    """

    score: float
    mean: float
    half_width: float
    p_value: float


def paired_bootstrap(
    metric: str, systems: Sequence[Sequence[str]], references: References, resamples: int = RESAMPLES
) -> list[Verdict]:
    """Tests each system against the first; BLEU and chrF by sacreBLEU's own test.

    Args:
      metric: one that ``compute_metrics`` knows.
      systems: the hypotheses of each, one for each source.
      references: for each source one or more.
      resamples: how often as many sources as there are are drawn, with replacement, the same for all systems.
    """
    test = _by_sacrebleu if metric in ("bleu", "chrf") else _by_counts
    found = test(metric, systems, references, resamples)
    # sacreBLEU's formula finds that a system differs from its twin; but no difference is ever less than none.
    return [verdict._replace(p_value=1.0) if i and verdict.score == found[0].score else verdict
            for i, verdict in enumerate(found)]  # fmt: skip


def _by_sacrebleu(
    metric: str, systems: Sequence[Sequence[str]], references: References, resamples: int
) -> list[Verdict]:
    from sacrebleu.significance import PairedTest  # here, because sacreBLEU takes 0.2 s to import

    named: Any = [(str(i), list(hypotheses)) for i, hypotheses in enumerate(systems)]
    scorer, ranked = {metric: corpus_metric(metric)}, transpose_references(references)
    _, found = PairedTest(named, scorer, ranked, test_type="bs", n_samples=resamples)()
    results: list[Any] = next(column for heading, column in found.items() if heading != "System")
    p_values = [math.nan, *(result.p_value for result in results[1:])]
    return [Verdict._make(map(float, (r.score, r.mean, r.ci, p))) for r, p in zip(results, p_values, strict=True)]


def _by_counts(metric: str, systems: Sequence[Sequence[str]], references: References, resamples: int) -> list[Verdict]:
    from sacrebleu.significance import estimate_ci  # here, because sacreBLEU takes 0.2 s to import

    counts = np.array([error_counts(metric, hypotheses, references) for hypotheses in systems], np.float64)
    scores = _scores(counts.sum(axis=1))
    drawn = _resampled(counts, resamples)
    gaps = np.abs(drawn - drawn[:, :1])
    surprising = (gaps - gaps.mean(axis=0) > np.abs(scores - scores[0])).sum(axis=0)
    p_values = (surprising + 1) / (resamples + 1)
    p_values[0] = math.nan
    means, half_widths = zip(*map(estimate_ci, drawn.T), strict=True)
    return [Verdict._make(map(float, row)) for row in zip(scores, means, half_widths, p_values, strict=True)]


def _resampled(counts: Float[np.ndarray, "systems sources 2"], resamples: int) -> Float[np.ndarray, "draws systems"]:
    """The score of each system on each resample of the sources."""
    random = np.random.default_rng(_SEED)
    size = counts.shape[1]
    # How often each source is drawn, times what it counts: the sums over a resample, without gathering it.
    times = (np.bincount(random.integers(size, size=size), minlength=size) for _ in range(resamples))
    return np.stack([_scores(np.einsum("n,snc->sc", drawn, counts)) for drawn in times])


def _scores(sums: Float[np.ndarray, "systems 2"]) -> Float[np.ndarray, "systems"]:
    return 100 * sums[:, 0] / np.maximum(sums[:, 1], 1)
