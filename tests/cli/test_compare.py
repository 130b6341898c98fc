import json
import subprocess
import sys

import pytest

from flaxformer_lite.cli.main import main
from flaxformer_lite.compare.decode_records import DecodeRecords, decodes_path, save_decodes
from tests.compare.fake_runs import wer, write_run


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Three runs with two learning rates, in a directory below the current one."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "sweep" / "a", wer(*range(20, 10, -1)), {"optim.learning_rate": 0.001})
    write_run(tmp_path / "sweep" / "b", wer(*range(22, 12, -1)), {"optim.learning_rate": 0.001, "seed": 3})
    write_run(tmp_path / "sweep" / "c", wer(9, 8), {"optim.learning_rate": 0.01})
    return tmp_path / "sweep"


def test_table_and_files(sweep, tmp_path, capsys):
    (sweep / "fresh").mkdir()
    (sweep / "fresh" / "config.json").write_text('{"seed": 1}')
    assert main(["compare", "sweep", "--csv=runs.csv", "--json=runs.json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "skipped sweep/fresh: cannot be read (no metrics are recorded yet)\n"
    lines = captured.out.splitlines()
    assert lines[0] == "eval/wer (lower is better), 3 runs, best first"
    assert lines[6].split() == ["2", *("12.00", "±", "1.41") * 2, "2", "2", "0.001"]
    assert lines[-3].split() == ["1", "c", "8.00", "20", "8.00", "at", "20", "of", "100", "0.01", "0"]
    assert json.loads((tmp_path / "runs.json").read_text())["runs"][0]["name"] == "c"
    assert (tmp_path / "runs.csv").read_text().count("\n") == 4


def test_duplicate_runs_are_reported(sweep, capsys):
    write_run(sweep / "again", wer(9, 8), {"optim.learning_rate": 0.01})
    assert main(["compare", "sweep"]) == 0
    assert "again, c: some of these are the same run" in capsys.readouterr().err
    assert main(["compare", "sweep/a", "sweep/b"]) == 0
    assert not capsys.readouterr().err


def test_significance(sweep, capsys):
    references = [["a b"], ["c"], ["d e f"]] * 9
    for name, wrong in (("b", 2), ("a", 5)):
        hypotheses = [these[0] if i % wrong else "x" for i, these in enumerate(references)]
        kept = DecodeRecords({"metrics": {"wer": 1.0}}, ["s"] * 27, references, hypotheses)
        save_decodes(kept, decodes_path(sweep / name, "test"))
    assert main(["compare", "sweep/b", "sweep/a", "--significance=test", "--json=runs.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[-2:]] == ["b", "a"]
    found = json.loads((sweep.parent / "runs.json").read_text())["significance"]
    assert found[1]["metrics"]["wer"]["difference"] == pytest.approx(100 * (6 - 14) / 27)


def test_page_and_figures(sweep, tmp_path, capsys):
    assert main(["compare", "sweep", "--html=page.html", "--png=new/figures"]) == 0
    assert (tmp_path / "page.html").read_text("utf-8").lstrip().lower().startswith("<!doctype html>")
    drawn = {path.name for path in (tmp_path / "new" / "figures").iterdir()}
    assert drawn == {"curves.png", "by_optim.learning_rate.png"}


def test_standard_output_has_only_the_file(sweep, capsys):
    assert main(["compare", "sweep", "--json=-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 3
    assert main(["compare", "sweep", "--html=-"]) == 0
    assert capsys.readouterr().out.lstrip().lower().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["swep"], "swep: there is no such directory"),
        (["sweep", "--metric=eval/bleu"], "--metric=eval/bleu: no run has recorded it"),
        (["sweep", "--csv=none/x.csv"], "--csv=none/x.csv: cannot be written"),
        (["sweep", "--html=sweep"], "--html=sweep: is a directory"),
        (["sweep", "--png=sweep/a/config.json/x"], "a/config.json is a file; name a directory"),
        (["sweep", "--significance=../x"], "--significance=../x: must consist of"),
        (["sweep", "--significance=test"], "sweep/a has no decodes/test.jsonl (nor have 2 others); create it with"),
        ([], "the following arguments are required: DIR"),
    ],
)
def test_errors_are_one_line(flags, message, sweep, capsys):
    assert main(["compare", *flags]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_compare_does_not_import_jax(sweep, repository):
    code = (
        f"import sys; sys.path.insert(0, {str(repository)!r})\n"
        "from flaxformer_lite.cli.main import main\n"
        "code = main(['compare', 'sweep'])\n"
        "heavy = {'jax', 'flax', 'grain', 'matplotlib', 'sacrebleu', 'tensorflow_datasets'} & sys.modules.keys()\n"
        "sys.exit(code or ', '.join(heavy) or 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
