import json
import os
import subprocess
import sys

import pytest

from flaxformer_lite.cli.main import main
from tests.micro_config import micro, use_devices
from tests.work_dirs import make_folder

CONFIG = micro({"train.keep_latest": 4, "train.save_every": 5, "train.eval_every": 5})  # the best metric: exact_match


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A work directory with checkpoints of three steps, of which the first is the best."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    make_folder(folder, CONFIG, (5, 10, 15))
    lines = [
        {"step": step, "eval/exact_match": -step, "eval/wer": wer} for step, wer in ((5, 4.0), (10, 2), (15, None))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"step": 7}]))
    return folder


def stdout_of(capsys, *argv):
    assert main(["checkpoints", *argv]) == 0
    return capsys.readouterr().out


def test_ls(run, capsys):
    head, *rows = stdout_of(capsys, "ls", f"--workdir={run}").splitlines()
    assert head.split() == ["step", "exact_match", "wer", "size", "saved"]
    assert [row.split()[:3] for row in rows] == [["5", "-5", "4"], ["10", "-10", "2"], ["15", "-15", "nan"]]
    assert [row.split(" ago")[1].strip() for row in rows] == ["best", "", "latest"]


def test_ls_lists_averages_and_damaged_checkpoints(tmp_path, monkeypatch, capsys):
    use_devices(monkeypatch, 1)
    make_folder(tmp_path, CONFIG, (5, 10))
    assert main(["average", f"--workdir={tmp_path}", "--last=2"]) == 0
    capsys.readouterr()
    os.truncate(tmp_path / "checkpoints" / "10" / "run" / "metadata", 0)
    (tmp_path / "checkpoints" / "damaged.3").mkdir()
    (tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp").mkdir()
    rows = json.loads(stdout_of(capsys, "ls", f"--workdir={tmp_path}", "--json"))
    assert [(row["name"], row["notes"]) for row in rows] == [
        ("5", ["best"]),
        ("10", ["latest", "damaged"]),
        ("average", ["of steps 5, 10"]),
        ("damaged.3", ["not restored"]),
    ]
    assert rows[0]["size"] == sum(
        path.stat().st_size for path in (tmp_path / "checkpoints/5").rglob("*") if path.is_file()
    )
    assert rows[0]["metrics"] == {"exact_match": -5.0}


@pytest.mark.parametrize(
    ("flags", "value"),
    [([], "5"), (["--metric=wer"], "10"), (["--metric=eval/wer"], "10"), (["--path"], "{}/checkpoints/5")],
)
def test_best_prints_one_value(flags, value, run, capsys):
    assert stdout_of(capsys, "best", f"--workdir={run}", *flags) == value.format(run) + "\n"


def test_ls_and_best_do_not_import_jax(run, repository):
    code = (
        "import sys; from flaxformer_lite.cli.main import main\n"
        f"for word in ('ls', 'best'): assert main(['checkpoints', word, '--workdir={run}']) == 0\n"
        "sys.exit(', '.join({'jax', 'flax', 'orbax', 'grain'} & sys.modules.keys()) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_diff_lists_the_largest_changes(run, tmp_path, capsys):
    title, total, _, head, *rows = stdout_of(
        capsys, "diff", f"--workdir={run}", "--steps=best,15", "--top=4"
    ).splitlines()
    assert title == f"{run}/checkpoints/5 → {run}/checkpoints/15:"
    assert "over 48 parameters" in total
    assert head.split()[:2] == ["parameter", "shape"]
    moved = [float(row.split()[2]) for row in rows[:-1]]
    assert len(moved) == 4
    assert moved == sorted(moved, reverse=True)
    assert "… and 44 that changed less" in rows[-1]
    make_folder(tmp_path / "other", CONFIG, (10, 20))
    values = json.loads(stdout_of(capsys, "diff", f"--workdir={run},{tmp_path}/other", "--steps=10", "--json"))
    assert values["relative"] == 0  # tests.work_dirs makes the same parameters for the same step
    assert len(values["changes"]) == 48
    assert values["unmatched"] == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["ls", "--workdir={}/no"], "{}/no/config.json: there is no such file"),
        (
            ["best", "--workdir={}", "--metric=bleu"],
            "--metric=bleu: no checkpoint in {}/checkpoints was evaluated by it",
        ),
        (["diff", "--workdir={}"], "error: --workdir={}: does not name two checkpoints"),
        (["diff", "--workdir={}", "--steps=1,2,3"], "--workdir={} --steps=1,2,3: does not name two checkpoints"),
        (["diff", "--workdir={},{},{}"], "does not name two checkpoints"),
        (["diff", "--workdir={}", "--steps=5,7"], "there is no checkpoint of step 7; there are [5, 10, 15]"),
        (["diff", "--workdir={}", "--steps=5,best1"], "'best1' is neither best, latest, average nor a step"),
        (["diff", "--workdir={}", "--steps=5,average"], "there is no average of checkpoints"),
        (["diff", "--workdir={}", "--steps=5,10", "--top=-1"], "--top=-1: must be 0 or more"),
        (["ls", "--workdr={}"], "--workdr: there is no such flag; did you mean --workdir?"),
        (["lst", "--workdir={}"], "invalid choice: 'lst'"),
        ([], "the following arguments are required: ls|best|diff"),
        (["ls"], "the following arguments are required: --workdir"),
        (["ls", "--workdir={}", "--steps=5"], "unrecognized arguments: --steps=5"),
    ],
)
def test_errors_are_one_line(argv, message, run, capsys):
    assert main(["checkpoints", *(word.replace("{}", str(run)) for word in argv)]) == 2
    captured = capsys.readouterr()
    assert message.replace("{}", str(run)) in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_run_without_checkpoints_is_an_error(run, tmp_path, capsys):
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    for word in (["ls"], ["best"], ["diff", "--steps=1,2"]):
        assert main(["checkpoints", *word, f"--workdir={tmp_path}"]) == 2
        assert f"{tmp_path}/checkpoints: there are no checkpoints; has the run been trained?" in capsys.readouterr().err
    (tmp_path / "checkpoints").mkdir()
    assert main(["checkpoints", "ls", f"--workdir={tmp_path}"]) == 2
    assert f"{tmp_path}/checkpoints: there are no checkpoints yet" in capsys.readouterr().err
