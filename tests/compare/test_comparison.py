import math
import statistics

import numpy as np
import pytest

from flaxformer_lite.compare.comparison import (
    CurvePoint,
    best_point,
    choose_metric,
    compare,
    differing_keys,
    final_point,
    known_direction,
    lower_is_better,
)
from flaxformer_lite.errors import InputError
from tests.compare.fake_runs import make_run

NAN = math.nan


def test_best_is_first_and_nan_last():
    runs = [
        make_run("diverged", [NAN, NAN]),
        make_run("worse", [9, 5, 7]),
        make_run("unmeasured", []),
        make_run("better", [8, NAN, 3, 4]),
    ]
    comparison = compare(runs, "eval/wer")
    assert [run.name for run in comparison.runs] == ["better", "worse", "diverged", "unmeasured"]
    assert comparison.best(runs[3]) == CurvePoint(30, 3.0)
    assert comparison.final(runs[3]) == CurvePoint(40, 4.0)
    assert comparison.best(runs[2]).step == comparison.final(runs[2]).step == 0
    assert math.isnan(comparison.final(runs[0]).value)


def test_best_is_the_earliest_of_equal_values():
    run = make_run("a", [3, 8, NAN, 8, 1])
    assert best_point(run, "eval/wer", False) == CurvePoint(20, 8.0)
    assert best_point(run, "eval/wer", True) == CurvePoint(50, 1.0)
    assert final_point(run, "eval/per").step == 0


@pytest.mark.parametrize(
    ("metric", "lower"),
    [
        ("eval/wer", True),
        ("train/loss", True),
        ("train/objective", True),
        ("eval/bleu", False),
        ("train/mfu", False),
        ("mine", False),
    ],
)
def test_lower_is_better(metric, lower):
    assert lower_is_better(metric) == lower


def test_a_learning_rate_has_no_direction():
    assert known_direction("train/learning_rate") is None
    assert known_direction("train/gradient_norm") is True
    assert known_direction("eval/exact_match") is False
    assert known_direction("eval/wer/of_a_group") is True
    assert known_direction("eval/bleu/of_a_group") is False


def test_differing_keys_end_with_the_seed():
    runs = [
        make_run("a", [1], seed=0, width=(4, 5), depth=2, same="x"),
        make_run("b", [1], seed=1, width=(4, 6), depth=2, same="x", new=None),
    ]
    assert differing_keys(runs) == ("width", "new", "seed")
    assert differing_keys(runs[:1]) == ()


def test_groups_have_mean_and_sample_deviation():
    rng = np.random.default_rng(0)
    values = {(rate, seed): [9.0, *rng.uniform(1, 5, 2)] for rate in (0.1, 0.2, 0.3) for seed in (5, 6, 7, 8)}
    del values[0.3, 8], values[0.2, 7], values[0.2, 6], values[0.2, 8]
    runs = [make_run(f"{rate} {seed}", v, seed=seed, rate=rate) for (rate, seed), v in values.items()]
    comparison = compare(runs, "eval/wer")
    groups = {group.runs[0].settings["rate"]: group for group in comparison.groups}
    assert {rate: len(group.runs) for rate, group in groups.items()} == {0.1: 4, 0.2: 1, 0.3: 3}
    for rate in (0.1, 0.3):
        own = [v for (of, _), v in values.items() if of == rate]
        for found, numbers in ((groups[rate].best, map(min, own)), (groups[rate].final, (v[-1] for v in own))):
            numbers = list(numbers)
            assert found.mean == pytest.approx(statistics.mean(numbers))
            assert found.std == pytest.approx(statistics.stdev(numbers))
    assert math.isnan(groups[0.2].best.std)
    assert groups[0.2].best.mean == min(values[0.2, 5])
    means = [group.best.mean for group in comparison.groups]
    assert means == sorted(means)


def test_a_diverged_seed_makes_the_mean_nan():
    runs = [make_run("a", [4, 2], seed=0), make_run("b", [6, NAN], seed=1), make_run("c", [], seed=2)]
    (group,) = compare(runs, "eval/wer").groups
    assert (group.best.mean, group.best.std) == (4.0, pytest.approx(math.sqrt(8)))
    assert math.isnan(group.final.mean)


def test_a_hundred_runs_of_one_config_are_one_group():
    runs = [make_run(str(i), [50.0 - i], seed=i) for i in range(100)]
    comparison = compare(runs, "eval/wer")
    assert [run.name for run in comparison.runs[:2]] == ["99", "98"]
    assert [len(group.runs) for group in comparison.groups] == [100]


def test_metric_is_given_or_that_of_the_configs():
    runs = [make_run("a", [1], **{"eval.best_metric": "wer"})]
    assert choose_metric(runs, "") == choose_metric(runs, "wer") == choose_metric(runs, "eval/wer") == "eval/wer"
    with pytest.raises(InputError, match=r"metric 'eval/wr': no run .* did you mean eval/wer\? \(recorded: eval/wer\)"):
        choose_metric(runs, "eval/wr")
    with pytest.raises(InputError, match=r"metric: the runs have different eval.best_metric \(eval/bleu, eval/wer\)"):
        choose_metric([*runs, make_run("b", [1], **{"eval.best_metric": "bleu"})], "")
