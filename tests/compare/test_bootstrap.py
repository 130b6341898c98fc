import math
import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from flaxformer_lite.compare.bootstrap import paired_bootstrap
from flaxformer_lite.metrics.compute import compute_metrics


def _references(count, seed=0):
    rng = random.Random(seed)
    return [
        [" ".join(rng.choices("abcdefgh", k=rng.randint(4, 9))) for _ in range(rng.randint(1, 2))] for _ in range(count)
    ]


def _system(references, wrong, seed):
    """The first references, a fraction ``wrong`` of them with an additional word."""
    rng = random.Random(seed)
    return [these[0] + " x" * (rng.random() < wrong) for these in references]


@pytest.mark.parametrize("metric", ["exact_match", "wer", "per"])
def test_scores_equal_the_metrics(metric):
    references = _references(30)
    systems = [_system(references, wrong, seed) for seed, wrong in enumerate((0.3, 0.5, 0.1))]
    found = paired_bootstrap(metric, systems, references, resamples=50)
    for result, hypotheses in zip(found, systems, strict=True):
        assert result.score == pytest.approx(compute_metrics([metric], {}, hypotheses, references)[metric])
        assert abs(result.mean - result.score) < result.half_width
    assert math.isnan(found[0].p_value)


def test_bleu_equals_sacrebleu():
    references = [these[:1] for these in _references(40)]
    systems = [_system(references, 0.5, 1), _system(references, 0.3, 2)]
    found = paired_bootstrap("bleu", systems, references, resamples=200)
    named = [("a", systems[0]), ("b", systems[1])]
    _, theirs = PairedTest(named, {"BLEU": BLEU()}, [[r for (r,) in references]], test_type="bs", n_samples=200)()
    for ours, other in zip(found, theirs["BLEU"], strict=True):
        assert (ours.score, ours.mean, ours.half_width) == (other.score, other.mean, other.ci)
    assert found[1].p_value == theirs["BLEU"][1].p_value


def test_wer_agrees_with_a_simple_bootstrap():
    """Another implementation with other samples estimates the same p-value, mean and interval, within their error."""
    references = _references(60)
    systems = [_system(references, 0.5, 1), _system(references, 0.4, 4)]
    wrong = [[h not in r for h, r in zip(s, references, strict=True)] for s in systems]
    rng = random.Random(5)
    first, second = [], []
    for _ in range(4000):
        drawn = rng.choices(range(60), k=60)
        first.append(100 * sum(wrong[0][i] for i in drawn) / 60)
        second.append(100 * sum(wrong[1][i] for i in drawn) / 60)
    observed = 100 * abs(sum(wrong[0]) - sum(wrong[1])) / 60
    gaps = [abs(a - b) for a, b in zip(first, second, strict=True)]
    mean = sum(gaps) / len(gaps)
    p_value = sum(gap - mean > observed for gap in gaps) / len(gaps)
    ours = paired_bootstrap("wer", systems, references, resamples=4000)
    assert 0.01 < p_value < 0.3  # a p-value that is informative
    assert ours[1].p_value == pytest.approx(p_value, abs=5 * math.sqrt(p_value / 4000))
    for result, drawn in zip(ours, (first, second), strict=True):
        assert result.mean == pytest.approx(np.mean(drawn), abs=0.5)
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert result.half_width == pytest.approx((high - low) / 2, abs=1.7)  # one source of 60


@pytest.mark.parametrize("metric", ["wer", "per", "bleu", "chrf"])
def test_equal_systems_have_p_one_and_better_ones_a_small_p(metric):
    references = _references(80)
    bad, good = _system(references, 0.7, 1), _system(references, 0.1, 2)
    _, twin, better = paired_bootstrap(metric, [bad, list(bad), good], references, resamples=100)
    assert twin.p_value == 1.0
    assert better.p_value == pytest.approx(1 / 101)


def test_p_values_of_equally_good_systems():
    """p < 0.05 in about a tenth of the cases, since the test is one-sided."""
    references = _references(50)
    p_values = [
        paired_bootstrap("wer", [_system(references, 0.4, 2 * i), _system(references, 0.4, 2 * i + 1)], references, 200)
        for i in range(60)
    ]
    assert np.mean([found[1].p_value < 0.05 for found in p_values]) < 0.25


def test_resamples_are_deterministic():
    references = _references(20)
    systems = [_system(references, 0.5, 1), _system(references, 0.3, 2)]
    assert repr(paired_bootstrap("per", systems, references)) == repr(paired_bootstrap("per", systems, references))
