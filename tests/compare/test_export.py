import csv
import io
import json
import math

from flaxformer_lite.compare.comparison import compare
from flaxformer_lite.compare.export import to_csv, to_json
from tests.compare.fake_runs import make_run

THIRD = 1 / 3


def _comparison():
    runs = [
        make_run("a, b", [9, THIRD, 0.5], seed=0, files=("x", "y"), rate=0.1),
        make_run("c", [7, math.nan], seed=1, files=("x",), rate=0.1),
        make_run("d", [], seed=0, rate=0.1),
    ]
    return compare(runs, "eval/wer")


def test_csv_is_exact():
    rows = list(csv.DictReader(io.StringIO(to_csv(_comparison()))))
    assert [row["run"] for row in rows] == ["a, b", "c", "d"]
    assert list(rows[0])[4:] == ["files", "seed", "eval/wer final", "eval/wer best", "eval/wer best step"]
    assert float(rows[0]["eval/wer best"]) == THIRD
    assert (rows[0]["eval/wer final"], rows[0]["eval/wer best step"]) == ("0.5", "20")
    assert [row["files"] for row in rows] == ['["x", "y"]', '["x"]', ""]
    assert [row["eval/wer final"] for row in rows] == ["0.5", "nan", ""]


def test_json_is_exact_and_has_groups():
    found = json.loads(to_json(_comparison()))
    assert found["keys"] == ["files", "seed"]
    assert [run["name"] for run in found["runs"]] == ["a, b", "c", "d"]
    assert found["runs"][0]["metrics"]["eval/wer"] == {"final": 0.5, "final_step": 30, "best": THIRD, "best_step": 20}
    assert found["runs"][1]["metrics"]["eval/wer"]["final"] is None
    assert found["runs"][2]["metrics"] == {}
    assert found["groups"][0] == {
        "runs": ["a, b"],
        "settings": {"files": ["x", "y"]},
        "final": {"mean": 0.5, "deviation": None},
        "best": {"mean": THIRD, "deviation": None},
    }
    assert found["significance"] == []
