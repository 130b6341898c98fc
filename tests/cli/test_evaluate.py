import dataclasses
import json
import sys
import types

import pytest

from flaxformer_lite.cli.main import main
from flaxformer_lite.compare.decode_records import load_decodes
from flaxformer_lite.data.tasks import Examples


@pytest.fixture
def calls(monkeypatch, predictor):
    """The arguments of the calls of ``evaluate_split``."""
    calls = []

    def evaluate_split(predictor, split, decode, max_examples, files):
        calls.append((predictor, split, decode, max_examples, *files))
        examples = Examples(["ab", "c\u2028d"], [("b a",), ("c", "d c")])
        return types.SimpleNamespace(
            metrics={"loss": 0.51234, "wer": 30.25}, examples=examples, hypotheses=["b a", "d\nd"]
        )

    module = types.ModuleType("flaxformer_lite.inference.evaluate")
    module.evaluate_split = evaluate_split
    monkeypatch.setitem(sys.modules, "flaxformer_lite.inference.evaluate", module)
    return calls


def test_table(calls, predictor, capsys):
    assert main(["evaluate", "--workdir=w", "--split=test", "--beam_size=4", "--max_examples=9"]) == 0
    decode = dataclasses.replace(predictor.config.decode, method="beam", beam_size=4)
    assert calls == [(predictor, "test", decode, 9)]
    shown = capsys.readouterr().out
    assert "test, step 700, beam 4, length penalty 0.6 (google)" in shown
    assert [line.split() for line in shown.splitlines()[-2:]] == [["loss", "0.5123"], ["wer", "30.2500"]]


def test_text_files_replace_the_split(calls, predictor, capsys):
    assert main(["evaluate", "--workdir=w", "--text=a.en,a.de"]) == 0
    assert calls[0][4:] == ("a.en", "a.de")
    assert "a.en,a.de, step 700" in capsys.readouterr().out
    assert main(["evaluate", "--workdir=w", "--text=a.en,a.de", "--save_decodes"]) == 2
    assert "--save_decodes: is missing a name, since --text=a.en,a.de is not a split" in capsys.readouterr().err


def test_json_has_all_settings(calls, predictor, capsys):
    assert main(["evaluate", "--workdir=w", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "workdir": "w",
        "step": 700,
        "split": "validation",
        "max_examples": 0,
        "seed": 0,
        "decode": json.loads(json.dumps(dataclasses.asdict(predictor.config.decode))),
        "metrics": {"loss": 0.51234, "wer": 30.25},
    }


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--method=greedy", "greedy"),
        ("--top_p=0.5", "one sample"),
        ("--num_samples=7", "most likely of 7 samples"),
        ("--utility=bleu", "minimum Bayes risk by bleu over 16 samples"),
    ],
)
def test_the_table_names_the_search(calls, flag, named, capsys):
    assert main(["evaluate", "--workdir=w", flag]) == 0
    assert f"validation, step 700, {named}\n" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--split=dev", "--max_examples=-1", "--max_examples=many", "--beam_size=0"])
def test_bad_flags_end_in_one_line(calls, flag, capsys):
    assert main(["evaluate", "--workdir=w", flag]) == 2
    captured = capsys.readouterr()
    assert flag.partition("=")[0] in captured.err
    assert captured.err.count("\n") == 1
    assert not calls


@pytest.mark.parametrize(("flag", "name"), [("--save_decodes", "test"), ("--save_decodes=beam-4.new", "beam-4.new")])
def test_saves_decodes(flag, name, calls, tmp_path, capsys):
    assert main(["evaluate", f"--workdir={tmp_path}", "--split=test", flag, "--json"]) == 0
    captured = capsys.readouterr()
    path = tmp_path / "decodes" / f"{name}.jsonl"
    assert str(path) in captured.err
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    kept = load_decodes(path)
    assert kept.settings == json.loads(captured.out)
    assert kept.sources == ["ab", "c\u2028d"]
    assert kept.references == [["b a"], ["c", "d c"]]
    assert kept.hypotheses == ["b a", "d\nd"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdir=a,b", "--save_decodes"], "belongs to one run, but --workdir=a,b names an ensemble"),
        (["--workdir=a", "--save_decodes=../x"], "--save_decodes=../x: must consist of letters"),
    ],
)
def test_rejects_names_of_decodes_before_loading(flags, message, calls, capsys):
    assert main(["evaluate", *flags]) == 2
    assert message in capsys.readouterr().err
    assert not calls
