import math

import pytest

from flaxformer_lite.compare.comparison import compare
from flaxformer_lite.compare.text_table import Column, decimals, format_setting, layout_columns, render
from tests.compare.fake_runs import make_run


def test_columns_are_split_into_blocks():
    columns = [
        Column("#", ["1", "10"], right=True),
        Column("name", ["a", "longer"], right=False),
        Column("wide", ["x" * 30, ""], right=False),
        Column("last", ["1", "2"], right=True),
    ]
    assert list(layout_columns(columns, 20)) == [
        " #  name",
        " 1  a",
        "10  longer",
        "",
        " #  wide",
        f" 1  {'x' * 30}",
        "10",
        "",
        " #  last",
        " 1     1",
        "10     2",
    ]
    assert len(list(layout_columns(columns, 100))) == 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [((28.39, 9.1), 2), ((0.51,), 4), ((1234.5, 3.0), 0), ((math.nan, 5.0), 3), ((), 2), ((0.0,), 2), ((1e-9,), 6)],
)
def test_decimals_show_four_digits_of_the_largest_value(values, expected):
    assert decimals(values) == expected


def test_settings_are_formatted_as_overrides():
    assert [format_setting(value) for value in ("a", ("a", 2), (), "", None, 1e-5, False)] == [
        *("a", "a,2", "()", "''", "None", "1e-05", "False")
    ]


def test_one_run():
    assert render(compare([make_run("alone", [3, 2.5], **{"train.steps": 20})], "eval/wer"), 80) == (
        "eval/wer (lower is better), 1 run, best first\n\n"
        "#  run     best  at step  final\n"
        "1  alone  2.500       20  2.500\n"
    )


def test_means_over_seeds_are_first():
    runs = [
        make_run(f"{rate} {seed}", [rate + seed], seed=seed, rate=rate) for rate in (1.5, 3.5) for seed in (0, 1, 2)
    ]
    runs[-1] = make_run("other", [], seed=2, rate=3.5)
    lines = render(compare(runs, "eval/wer"), 80).splitlines()
    start = lines.index("mean ± standard deviation over seeds") + 2
    assert [line.split() for line in lines[start : start + 3]] == [
        ["#", "best", "final", "runs", "rate"],
        ["1", *("2.500", "±", "1.000") * 2, "3", "1.5"],
        ["2", *("4.000", "±", "0.707") * 2, "2", "of", "3", "3.5"],
    ]
    assert lines[-1].split() == ["6", "other", "–", "–", "–", "3.5", "2"]


def test_long_names_and_values_stay_within_the_width():
    settings = [{f"group.setting_{k}": f"value {i} " * 9 if k == 3 else i + k for k in range(20)} for i in range(12)]
    runs = [make_run(f"{'long' * 10}{i}", [i], **settings[i]) for i in range(12)]
    text = render(compare(runs, "eval/wer"), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert all(run.name in text for run in runs)
    assert all(f"setting_{k}" in text for k in range(20))


def test_unfinished_runs_show_their_step():
    runs = [make_run("done", [3]), make_run("under way", [4, 5], **{"train.steps": 1000})]
    object.__setattr__(runs[1], "done", False)
    text = render(compare(runs, "eval/wer"), 80)
    assert "yes" in text
    assert "at 20 of 1,000" in text
