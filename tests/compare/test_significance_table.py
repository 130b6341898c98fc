import json

import pytest

from flaxformer_lite.compare import decodes
from flaxformer_lite.compare.decodes import Decodes
from flaxformer_lite.compare.significance_table import hold_trial
from flaxformer_lite.errors import InputError
from flaxformer_lite.metrics.compute import compute_metrics
from tests.compare.made import make_run

REFERENCES = [["a b"], ["c", "d"], ["e f g"], ["h"]] * 5


@pytest.fixture
def save(tmp_path):
    """Saves decodes in which every ``wrong``-th hypothesis is wrong; returns the run."""

    def save_some(run, wrong, name="test", references=REFERENCES, measured=("wer", "per")):
        hypotheses = [these[0] if i % wrong else "x" for i, these in enumerate(references)]
        settings = {"split": "test", "metrics": {"loss": 1.0} | compute_metrics(measured, {}, hypotheses, references)}
        path = decodes.path_of(tmp_path / run, name)
        path.parent.parent.mkdir(exist_ok=True)
        decodes.save(Decodes(settings, [str(i) for i in range(len(references))], references, hypotheses), path)
        made = make_run(run, [1])
        object.__setattr__(made, "folder", tmp_path / run)
        return made

    return save_some


def test_each_is_tested_against_the_first_named(save):
    runs = [save("a", 5), save("b", 2), save("c", 3, measured=("per", "bleu"))]
    trial = hold_trial(runs[:2], ["test"])
    assert {name: [v.score for v in verdicts] for name, verdicts in trial.verdicts.items()} == {
        "wer": [20.0, 50.0],
        "per": [pytest.approx(100 * edits / 35) for edits in (7, 25)],
    }
    lines = trial.render(100).splitlines()
    assert lines[0] == "20 sources, paired bootstrap over 1,000 resamples against a"
    assert [line.split()[0] for line in lines[2:]] == ["metric", "wer", "wer", "per", "per"]
    assert lines[4].split()[5:] == ["+30.00", f"{trial.verdicts['wer'][1].p_value:.3f}", "b"]
    assert list(hold_trial(runs, ["test"]).verdicts) == ["per"]
    plain = trial.to_json()
    assert plain[0]["metrics"]["wer"]["p_value"] is None
    assert plain[1]["metrics"]["wer"]["difference"] == 30.0


def test_what_is_found_can_be_written(save):
    measured = ("exact_match", "wer", "per", "bleu", "chrf")
    plain = hold_trial([save("a", 5, measured=measured), save("b", 2, measured=measured)], ["test"]).to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert list(plain[1]["metrics"]) == list(measured)


def test_one_run_under_two_names(save):
    save("a", 5, "greedy")
    trial = hold_trial([save("a", 2, "beam")], ["greedy", "beam"])
    assert [line.rpartition("  ")[2] for line in trial.render(100).splitlines()[3:5]] == ["a (greedy)", "a (beam)"]


def test_what_is_missing_is_said_with_the_command_that_makes_it(save, tmp_path):
    a, b, c = save("a", 5), save("b", 2), save("c", 2, "mine")
    assert hold_trial([a, b, c], ["test"]).missing == (
        f"{tmp_path}/c has no decodes/test.jsonl; make it with: flaxformer-lite evaluate --workdir={tmp_path}/c "
        "--split=test --save_decodes"
    )
    with pytest.raises(InputError, match=r"--significance=test: there are no two .*/c --split=test --save_decodes$"):
        hold_trial([a, c], ["test"])
    with pytest.raises(InputError, match=r"b has no decodes/mine.jsonl; .*/b --split=… --save_decodes=mine$"):
        hold_trial([b, c], ["mine"])
    with pytest.raises(InputError, match="two runs, or two names of what one run decoded, are needed"):
        hold_trial([a], ["test"])


def test_decodes_of_other_data_are_refused(save, tmp_path):
    runs = [save("a", 5), save("b", 2, references=REFERENCES[:7])]
    with pytest.raises(InputError, match=r"not of the same sources and references \(of 20 and 7 examples\).*=test --s"):
        hold_trial(runs, ["test"])
    path = decodes.path_of(tmp_path / "b", "test")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=r"test\.jsonl: cannot be read"):
        hold_trial(runs, ["test"])


def test_decodes_come_back_as_they_were(tmp_path):
    kept = Decodes({"step": 3}, ["a\u2028b", ""], [["x\ny"], ["é", "\t"]], ["\x85", "z\r"])
    decodes.save(kept, tmp_path / "decodes" / "d.jsonl")
    assert decodes.load(tmp_path / "decodes" / "d.jsonl") == kept
