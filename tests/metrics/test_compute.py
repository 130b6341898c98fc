"""Metrics by name or import path, and their checks of hypotheses and references."""

import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.metrics.compute import UTILITIES, compute_metrics, lower_is_better
from flaxformer_lite.metrics.error_rates import per
from tests.metrics.test_error_rates import HYPOTHESES, REFERENCES


@dataclass
class TooLong:
    """A metric of a user: the share of hypotheses that are too long."""

    limit: int = 3
    lower_is_better = True

    def __call__(self, hypotheses, references):
        return 100 * sum(len(hypothesis) > self.limit for hypothesis in hypotheses) / len(hypotheses)


def mean_length(hypotheses, references):
    return sum(map(len, hypotheses)) / len(hypotheses)


@pytest.fixture
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_metrics", SimpleNamespace(TooLong=TooLong, mean_length=mean_length))
    monkeypatch.setitem(sys.modules, TooLong.__module__, sys.modules.get(TooLong.__module__) or SimpleNamespace())


def test_metrics_are_computed_in_the_order_of_their_names():
    found = compute_metrics(("wer", "exact_match", "per"), {}, HYPOTHESES, REFERENCES)
    assert list(found) == ["wer", "exact_match", "per"]
    assert found["per"] == per(HYPOTHESES, REFERENCES)
    assert compute_metrics((), {}, HYPOTHESES, REFERENCES) == {}


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([], [], "no hypotheses"),
        (["a", "b"], [("a",)], "2 hypotheses for 1 sources"),
        (["a", "b"], [("a",), ()], "source 1 needs"),
        (["a"], ["a"], "source 0 needs"),
    ],
)
@pytest.mark.parametrize("name", ["exact_match", "wer", "per", "bleu", "chrf"])
def test_every_hypothesis_needs_references(name, hypotheses, references, message):
    with pytest.raises(ValueError, match=message):
        compute_metrics((name,), {}, hypotheses, references)


def test_unknown_names():
    with pytest.raises(ValueError, match="rouge"):
        compute_metrics(("wer", "rouge"), {}, ["a"], [("a",)])
    with pytest.raises(ValueError, match="rouge"):
        lower_is_better("rouge")


def test_the_better_direction_of_metrics(importable):
    assert all(map(lower_is_better, ("loss", "wer", "per", "my_metrics:TooLong")))
    others = ("token_accuracy", "exact_match", "bleu", "chrf", "my_metrics:mean_length")
    assert not any(map(lower_is_better, others))


def test_metrics_named_by_import_paths(importable):
    names, texts = ("my_metrics:TooLong", "my_metrics:mean_length", "wer"), ["a", "bc", "defg"]
    references = [(text,) for text in texts]
    expected = {"my_metrics:TooLong": pytest.approx(100 * 2 / 3), "my_metrics:mean_length": pytest.approx(7 / 3)}
    assert compute_metrics(names, {"TooLong": {"limit": 1}}, texts, references) == expected | {"wer": 0.0}
    with pytest.raises(InputError, match=r"config\.eval\.metric_options\.TooLong\.limit='x': must be"):
        compute_metrics(names, {"TooLong": {"limit": "x"}}, texts, references)
    with pytest.raises(InputError, match=r"config\.eval\.metrics='absent:Metric': there is no module absent"):
        lower_is_better("absent:Metric")


@pytest.mark.parametrize("name", ["chrf", "bleu", "edit_distance"])
def test_utilities_are_100_for_equal_texts_and_less_for_others(name):
    utility = UTILITIES[name]
    for text in ("", "K", "K AE T", "the cat sat on the mat"):
        assert utility(text, text) == pytest.approx(100)
    assert 0 < utility("K AE T S", "K AE T") < 100
    assert utility("K AE T", "K AE T S") > utility("K IH T", "K AE T S") > utility("", "K AE T S")
    assert utility("", "K") == utility("K", "") == 0
