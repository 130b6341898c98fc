import json
import math
import os

import numpy as np
import pytest

from flaxformer_lite.compare import export, figures, html_page, text_table
from flaxformer_lite.compare.comparison import compare
from flaxformer_lite.compare.load_runs import load_runs
from flaxformer_lite.errors import InputError
from tests.compare.fake_runs import wer, write_run


def test_settings_and_curves(tmp_path):
    lines = [
        *wer(9.0, math.nan, 7),
        {"step": 5, "train/loss": 2.5, "note": "words", "flag": True},
        "",
        "[3]",
        '"step"',
        '{"eval/wer": 1.0}',
        '{"step": "12", "eval/wer": 1.0}',
        '{"step": 20, "train/loss": NaN}',
        {"step": 30, "eval/wer": 6.5},
        '{"step": 40, "eval/w',
    ]
    with (write_run(tmp_path / "run", lines) / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\x00\xfe\n")
    (run,), skipped = load_runs([tmp_path / "run"])
    assert not skipped
    assert (run.name, run.path, run.step) == ("run", tmp_path / "run", 30)
    assert run.settings["data.reverse.examples"] == 200
    assert run.settings["eval.metrics"] == ("wer", "per")
    assert set(run.curves) == {"eval/wer", "train/loss"}
    np.testing.assert_array_equal(run.curves["eval/wer"].steps, [10, 20, 30])
    np.testing.assert_array_equal(run.curves["eval/wer"].values, [9, math.nan, 6.5])
    np.testing.assert_array_equal(run.curves["train/loss"].values, [2.5, math.nan])


def test_runs_are_found_at_any_depth_each_once(tmp_path):
    for name in ("sweep/b", "sweep/deep/er/a", "single", "single/checkpoints/5", "sweep/.hidden"):
        write_run(tmp_path / name, wer(3))
    os.symlink(tmp_path / "sweep", tmp_path / "sweep" / "loop")
    os.symlink(tmp_path / "single", tmp_path / "sweep" / "linked")
    found = load_runs([tmp_path / "sweep", tmp_path / "sweep" / "b", tmp_path / "single"])
    assert [run.name for run in found.runs] == ["b", "deep/er/a", "linked"]
    assert [line.partition(":")[0] for line in found.skipped] == [str(tmp_path / "sweep/b"), str(tmp_path / "single")]


def test_a_run_of_several_seeds_is_one_run_per_seed(tmp_path):
    write_run(tmp_path / "run", wer(3))
    for seed in (0, 1):
        write_run(tmp_path / "run" / f"seed_{seed}", wer(3 + seed), {"seed": seed})
    write_run(tmp_path / "run" / "elsewhere", wer(1))
    runs, _ = load_runs([tmp_path])
    assert [(run.name, run.settings["seed"]) for run in runs] == [("seed_0", 0), ("seed_1", 1)]


@pytest.mark.parametrize(
    ("values", "changes", "done"),
    [
        (range(10, 0, -1), {}, True),
        (range(9, 0, -1), {}, False),
        ((5, 4, 6, 4), {"train.patience": 2}, True),
        ((5, 4, 6), {"train.patience": 2}, False),
        ((5, 4, 6, 3), {"train.patience": 2}, False),
    ],
)
def test_done_follows_steps_and_patience(values, changes, done, tmp_path):
    write_run(tmp_path, [*wer(*values), {"step": 100, "train/loss": 1.0}], changes)
    assert load_runs([tmp_path]).runs[0].done == done


def test_done_follows_finished_json(tmp_path):
    write_run(tmp_path, wer(3))
    assert not load_runs([tmp_path]).runs[0].done
    (tmp_path / "finished.json").write_text("{}")
    assert load_runs([tmp_path]).runs[0].done


def test_unreadable_runs_are_skipped_and_named(tmp_path):
    write_run(tmp_path / "good", wer(3))
    write_run(tmp_path / "fresh", [])
    write_run(tmp_path / "lost", wer(3)).joinpath("config.json").unlink()
    write_run(tmp_path / "torn", wer(3)).joinpath("config.json").write_text('{"seed": ')
    write_run(tmp_path / "odd", wer(3)).joinpath("config.json").write_text("[1]")
    (tmp_path / "empty").mkdir()
    runs, skipped = load_runs([tmp_path, tmp_path / "empty"])
    assert [run.name for run in runs] == ["good"]
    messages = dict(message.removeprefix(f"{tmp_path}/").split(": ", 1) for message in skipped)
    assert messages.keys() == {"fresh", "lost", "torn", "odd", "empty"}
    assert messages["fresh"] == "cannot be read (no metrics are recorded yet)"
    assert messages["lost"] == "has no config.json"
    assert messages["torn"].startswith("cannot be read (")
    assert messages["odd"] == "cannot be read (config.json contains no settings)"
    with pytest.raises(InputError, match=r"no run to compare: .*fresh: .*no metrics .*empty: contains no readable run"):
        load_runs([tmp_path / "fresh", tmp_path / "empty"])
    with pytest.raises(InputError, match="there is no such directory"):
        load_runs([tmp_path / "good", tmp_path / "goood"])


@pytest.mark.parametrize(
    ("metrics", "change"),
    [
        ('{"step": 1000000000000000000000000, "eval/loss": 1}', {}),
        ('{"step": 70, "eval/loss": ' + "9" * 400 + "}", {}),
        ("[" * 100_000, {}),
        ("", {"train": {"steps": "x"}}),
        ("", {"train": {"patience": [1]}}),
        ("", {"seed": 10**400}),
        ("", {"data": {"task": "\ud800"}}),
    ],
)
def test_one_unusual_run_does_not_end_the_comparison(metrics, change, tmp_path):
    """Whatever the files of a run contain, the other runs are compared, and the page and the tables are rendered."""
    write_run(tmp_path / "good", wer(3, 2))
    config = write_run(tmp_path / "bad", [*wer(4), metrics]) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    runs, skipped = load_runs([tmp_path])
    assert "good" in [run.name for run in runs]
    assert len(runs) + len(skipped) == 2
    comparison = compare(runs, "eval/wer")
    text_table.render(comparison, 80).encode()
    export.to_json(comparison).encode()
    export.to_csv(comparison).encode()
    html_page.render(comparison).encode()
    figures.draw(comparison, tmp_path / "figures")


def test_configs_of_other_versions_are_read(tmp_path):
    write_run(tmp_path / "new", wer(3))
    old = write_run(tmp_path / "old", wer(4)) / "config.json"
    values = json.loads(old.read_text())
    del values["model"]["scan_layers"]
    old.write_text(json.dumps(values | {"gone": {"key": [1, [2, {"a": 3}]]}}))
    runs, _ = load_runs([tmp_path])
    assert len({run.settings.get("gone.key") for run in runs}) == 2
    assert {"model.scan_layers" in run.settings for run in runs} == {True, False}


def test_settings_of_earlier_versions_have_the_current_keys(tmp_path, repository):
    write_run(tmp_path / "new", wer(3))
    old = write_run(tmp_path / "old", wer(4)) / "config.json"
    old.write_text((repository / "tests/checkpoints/work_dir_0_1_0/config.json").read_text())
    new_run, old_run = load_runs([tmp_path]).runs
    assert old_run.settings.keys() == new_run.settings.keys()
