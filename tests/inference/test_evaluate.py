"""Metrics of decoded examples, for all of them and for groups; text files in place of a split."""

import dataclasses

import numpy as np
import pytest

from flaxformer_lite.config import defaults, parsing
from flaxformer_lite.data import tasks
from flaxformer_lite.data.examples import Examples
from flaxformer_lite.errors import InputError
from flaxformer_lite.inference import evaluate
from flaxformer_lite.inference.predict import Predictor

_EXAMPLES = Examples(
    ["a", "b", "c", "d", "e"],
    [("A",), ("x", "B"), ("x",), ("D",), ("x",)],
    {"kind": ["two", "one", "two", "two", "one"]},
)


class _Upper(Predictor):
    """A predictor whose hypotheses are the sources in capitals."""

    def __init__(self, **changes):
        config = defaults.get_config()
        config.eval.update({"metrics": ("exact_match", "wer"), **changes})
        config.data.task, config.data.text.meta_columns = "text", ("kind",)
        self.config = parsing.from_dict(config.to_dict())

    def decode(self, sources, decode):
        del decode
        return [source.upper() for source in sources]


def test_metrics_of_groups():
    predictor = _Upper(group_by="kind")
    found = evaluate.decode_examples(predictor, _EXAMPLES, predictor.config.decode)
    assert {name: round(value) for name, value in found.metrics.items()} == {
        **{"exact_match": 60, "wer": 40, "exact_match/one": 50, "wer/one": 50, "exact_match/two": 67, "wer/two": 33}
    }
    assert list(found.metrics)[:2] == ["exact_match", "wer"]
    some = evaluate.decode_examples(predictor, _EXAMPLES.take(np.array([0, 2])), predictor.config.decode)
    assert list(some.metrics) == ["exact_match", "wer", "exact_match/two", "wer/two"]


def test_examples_without_the_column_have_no_groups():
    without = dataclasses.replace(_EXAMPLES, meta={})
    predictor = _Upper(group_by="kind")
    found = evaluate.decode_examples(predictor, without, predictor.config.decode)
    assert list(found.metrics) == ["exact_match", "wer"]


def test_a_column_that_examples_lack_is_named():
    evaluate.check_group_by("", _EXAMPLES)
    evaluate.check_group_by("kind", _EXAMPLES)
    with pytest.raises(
        InputError, match=r"group_by='domain': the examples have no such column; their meta columns: kind"
    ):
        evaluate.check_group_by("domain", _EXAMPLES)


def test_too_many_groups_are_refused():
    count = 201
    examples = Examples(["a"] * count, [("b",)] * count, {"id": [str(i) for i in range(count)]})
    with pytest.raises(
        InputError, match=r"group_by='id': has 201 values among 201 examples.*; name a column of at most"
    ):
        evaluate.check_group_by("id", examples)


@pytest.mark.parametrize("group_references", [False, True])
def test_text_files_are_read_as_the_config_says(group_references, tmp_path):
    """The same pairs are as many examples as a TSV and as two files, unless references are grouped."""
    (tmp_path / "a.tsv").write_text("cat\tKatze\ndog\tHund\ncat\tKater\n")
    (tmp_path / "a.en").write_text("cat\ndog\ncat\n")
    (tmp_path / "a.de").write_text("Katze\nHund\nKater\n")
    config = defaults.get_config()
    config.data.text.group_references = group_references
    data = parsing.from_dict(config.to_dict()).data
    sizes = [
        len(tasks.load(evaluate._with_files(data, "test", [str(tmp_path / name) for name in names]), "test", 0))
        for names in (["a.tsv"], ["a.en", "a.de"])
    ]
    assert sizes == ([2, 3] if group_references else [3, 3])
