import json

import pytest

from flaxformer_lite.compare.decode_records import DecodeRecords, decodes_path, load_decodes, save_decodes
from flaxformer_lite.compare.significance_table import significance_table
from flaxformer_lite.errors import InputError
from flaxformer_lite.metrics.compute import compute_metrics
from tests.compare.fake_runs import make_run

REFERENCES = [["a b"], ["c", "d"], ["e f g"], ["h"]] * 5


@pytest.fixture
def save(tmp_path):
    """Saves decodes of which every ``wrong``-th hypothesis is wrong; returns the run."""

    def save_system(run, wrong, name="test", references=REFERENCES, measured=("wer", "per")):
        hypotheses = [these[0] if i % wrong else "x" for i, these in enumerate(references)]
        settings = {"split": "test", "metrics": {"loss": 1.0} | compute_metrics(measured, {}, hypotheses, references)}
        path = decodes_path(tmp_path / run, name)
        path.parent.parent.mkdir(exist_ok=True)
        save_decodes(DecodeRecords(settings, [str(i) for i in range(len(references))], references, hypotheses), path)
        made = make_run(run, [1])
        object.__setattr__(made, "path", tmp_path / run)
        return made

    return save_system


def test_each_system_is_tested_against_the_first(save):
    runs = [save("a", 5), save("b", 2), save("c", 3, measured=("per", "bleu"))]
    table = significance_table(runs[:2], ["test"])
    assert {name: [v.score for v in results] for name, results in table.results.items()} == {
        "wer": [20.0, 50.0],
        "per": [pytest.approx(100 * edits / 35) for edits in (7, 25)],
    }
    lines = table.render(100).splitlines()
    assert lines[0] == "20 sources, paired bootstrap over 1,000 resamples against a"
    assert [line.split()[0] for line in lines[2:]] == ["metric", "wer", "wer", "per", "per"]
    assert lines[4].split()[5:] == ["+30.00", f"{table.results['wer'][1].p_value:.3f}", "b"]
    assert list(significance_table(runs, ["test"]).results) == ["per"]
    plain = table.to_json()
    assert plain[0]["metrics"]["wer"]["p_value"] is None
    assert plain[1]["metrics"]["wer"]["difference"] == 30.0


def test_results_are_valid_json(save):
    measured = ("exact_match", "wer", "per", "bleu", "chrf")
    plain = significance_table([save("a", 5, measured=measured), save("b", 2, measured=measured)], ["test"]).to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert list(plain[1]["metrics"]) == list(measured)


def test_two_decodes_of_one_run(save):
    save("a", 5, "greedy")
    table = significance_table([save("a", 2, "beam")], ["greedy", "beam"])
    assert [line.rpartition("  ")[2] for line in table.render(100).splitlines()[3:5]] == ["a (greedy)", "a (beam)"]


def test_missing_decodes_are_named_with_the_command(save, tmp_path):
    a, b, c = save("a", 5), save("b", 2), save("c", 2, "mine")
    assert significance_table([a, b, c], ["test"]).missing == (
        f"{tmp_path}/c has no decodes/test.jsonl; create it with: flaxformer-lite evaluate --workdir={tmp_path}/c "
        "--split=test --save_decodes"
    )
    with pytest.raises(InputError, match=r"decodes test: fewer than two .*/c --split=test --save_decodes$"):
        significance_table([a, c], ["test"])
    with pytest.raises(InputError, match=r"b has no decodes/mine.jsonl; .*/b --split=… --save_decodes=mine$"):
        significance_table([b, c], ["mine"])
    with pytest.raises(InputError, match="two runs, or two names of one run's decodes, are needed"):
        significance_table([a], ["test"])


def test_decodes_of_other_data_are_an_error(save, tmp_path):
    runs = [save("a", 5), save("b", 2, references=REFERENCES[:7])]
    with pytest.raises(InputError, match=r"their sources and references differ \(20 and 7 examples\).*=test --s"):
        significance_table(runs, ["test"])
    path = decodes_path(tmp_path / "b", "test")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=r"test\.jsonl: cannot be read"):
        significance_table(runs, ["test"])


def test_decodes_are_loaded_as_saved(tmp_path):
    kept = DecodeRecords({"step": 3}, ["a\u2028b", ""], [["x\ny"], ["é", "\t"]], ["\x85", "z\r"])
    save_decodes(kept, tmp_path / "decodes" / "d.jsonl")
    assert load_decodes(tmp_path / "decodes" / "d.jsonl") == kept
