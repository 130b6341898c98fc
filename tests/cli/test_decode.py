import dataclasses
import io
import json
import os
import sys

import numpy as np
import pytest

from flaxformer_lite.cli import decode as command
from flaxformer_lite.cli.main import main
from flaxformer_lite.inference import scoring
from flaxformer_lite.inference.predict import Prediction
from flaxformer_lite.inference.scoring import ScoredTarget


@pytest.fixture
def words(tmp_path):
    """Writes the input file and returns its flag."""

    def write(content: bytes) -> str:
        (tmp_path / "words").write_bytes(content)
        return f"--input={tmp_path / 'words'}"

    return write


def fails(capsys, *argv) -> str:
    assert main(["decode", "--workdir=w", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_one_line_for_each_line_from_standard_input_to_output(predictor, monkeypatch, capsys):
    content = "ab\n\nü x\r\ncd".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert main(["decode", "--workdir=runs/x", "--step=300"]) == 0
    assert capsys.readouterr().out == "AB\n\nÜ X\nCD\n"
    assert predictor.asked == [("runs/x", 300), (["ab", "", "ü x", "cd"], predictor.config.decode)]


def test_files(predictor, words, tmp_path, capsys):
    (tmp_path / "out").write_text("old")
    assert main(["decode", "--workdir=w", words(b"ab\ncd\n"), f"--output={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "out").read_text() == "AB\nCD\n"
    assert capsys.readouterr().out == ""
    assert sorted(os.listdir(tmp_path)) == ["out", "words"]


def test_n_best_and_scores_keep_as_many_lines_for_every_line(predictor, words, capsys):
    assert main(["decode", "--workdir=w", words(b"ab\n\ncd\n"), "--n_best=3", "--scores"]) == 0
    expected = ["0.0000\tAB", "-1.0000\tAB!", "-2.0000\tAB!!", "0.0000\t", "-inf\t", "-inf\t"]
    expected += ["0.0000\tCD", "-1.0000\tCD!", "-2.0000\tCD!!"]
    assert capsys.readouterr().out.replace("-0.0000", "0.0000").splitlines() == expected


def test_tables_have_a_row_for_each_hypothesis(predictor, words, capsys):
    assert main(["decode", "--workdir=w", words(b"ab\n\ncd\n"), "--n_best=2", "--format=tsv"]) == 0
    assert capsys.readouterr().out.replace("-0.0000", "0.0000").splitlines() == [
        "1\t1\t0.0000\tAB",
        "1\t2\t-1.0000\tAB!",
        "2\t1\t0.0000\t",
        "3\t1\t0.0000\tCD",
        "3\t2\t-1.0000\tCD!",
    ]


def test_json_lines_have_an_object_for_each_line(predictor, words, capsys):
    assert main(["decode", "--workdir=w", words("ü\n\n".encode()), "--n_best=2", "--format=jsonl"]) == 0
    stdout = capsys.readouterr().out
    assert "Ü" in stdout
    first, second = map(json.loads, stdout.splitlines())
    hypotheses = [
        {"text": "Ü", "score": 0.0, "tokens": ["Ü"]},
        {"text": "Ü!", "score": -1.0, "tokens": ["Ü", "!"]},
    ]
    assert first == {"line": 1, "source": "ü", "hypotheses": hypotheses}
    assert second == {"line": 2, "source": "", "hypotheses": [{"text": "", "score": 0.0, "tokens": []}]}


def test_prefixes_go_with_their_lines(predictor, words, tmp_path, capsys):
    lines = [f"w{i}" for i in range(2 * command._BATCHES_PER_CHUNK + 1)]
    (tmp_path / "prefixes").write_text("".join(f"p{i}\n" if i % 3 else "\n" for i in range(len(lines))))
    flags = ["--batch_size=2", f"--prefix={tmp_path / 'prefixes'}"]
    assert main(["decode", "--workdir=w", words("\n".join(lines).encode()), *flags]) == 0
    asked = [
        (line, prefix)
        for chunk, _, prefixes in predictor.asked[1:]
        for line, prefix in zip(chunk, prefixes, strict=True)
    ]
    assert asked == [(f"w{i}", f"p{i}" if i % 3 else "") for i in range(len(lines))]


def test_as_many_prefixes_as_lines(predictor, words, tmp_path, capsys):
    (tmp_path / "prefixes").write_text("p\nq\nr\n")
    message = fails(capsys, words(b"ab\ncd\n"), f"--prefix={tmp_path / 'prefixes'}")
    assert "prefixes: has 3 lines, the input 2; give one for each line, blank for none" in message
    assert "--prefix=Hallo: there is no such file" in fails(capsys, words(b"ab\n"), "--prefix=Hallo")
    assert predictor.asked == []


def test_unknown_suppressed_tokens_are_reported_before_decoding(predictor, words, capsys):
    message = fails(capsys, words(b"ab\n"), "--suppress_tokens=a,xyz")
    assert "error: --suppress_tokens: 'xyz' is not a token of the target vocabulary\n" in message
    predictor.config = dataclasses.replace(
        predictor.config, decode=dataclasses.replace(predictor.config.decode, suppress_tokens=("q",))
    )
    assert "config.decode.suppress_tokens: 'q' is not a token" in fails(capsys, words(b"ab\n"))
    assert [asked for asked in predictor.asked if asked != ("w", "best")] == []


def test_attention_adds_to_the_same_objects(predictor, words, monkeypatch, capsys):
    class Scorer:
        def __init__(self, predictor, decode):
            pass

        def score_ids(self, sources, targets):
            log_probs, attention = np.array([-1.0, -0.5]), np.array([[0.25, 0.75], [1.0, 0.0]])
            return [ScoredTarget([source, "<end>"], ["x", "<end>"], log_probs, attention) for source in sources]

    monkeypatch.setattr(scoring, "Scorer", Scorer)
    flags = ["decode", "--workdir=w", words(b"ab\n\n"), "--format=jsonl"]
    assert main(flags) == 0
    plain = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main([*flags, "--attention"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    more = {"log_prob": -1.5, "log_probs": [-1.0, -0.5], "attention": [[0.25, 0.75], [1.0, 0.0]]}
    hypotheses = [hypothesis | more for hypothesis in plain[0]["hypotheses"]]
    assert found == [plain[0] | {"source_tokens": ["ab", "<end>"], "hypotheses": hypotheses}, plain[1]]


def test_several_folders_and_a_seed(predictor, words, tmp_path, capsys):
    (tmp_path / "a,b").mkdir()
    assert main(["decode", "--workdir=a,b,c", words(b"ab\n"), "--method=sample", "--seed=7"]) == 0
    assert predictor.asked[:2] == [("a", "b", "c", "best"), ("seed", 7)]
    assert main(["decode", f"--workdir={tmp_path / 'a,b'}", words(b"ab\n"), "--step=latest"]) == 0
    assert (str(tmp_path / "a,b"), "latest") in predictor.asked


def test_line_breaks_in_hypotheses_become_spaces(predictor, words, monkeypatch, capsys):
    monkeypatch.setattr(
        predictor, "n_best", lambda lines, decode, prefixes: [[command_prediction("a\nb\rc")] for _ in lines]
    )
    assert main(["decode", "--workdir=w", words(b"x\ny\n")]) == 0
    assert capsys.readouterr().out == "a b c\n" * 2


def command_prediction(text):
    class Prediction:
        score = -1.5

    Prediction.text = text
    return Prediction()


def test_many_lines_are_decoded_in_chunks_and_in_order(predictor, words, capsys):
    lines = [f"w{i}" for i in range(2 * command._BATCHES_PER_CHUNK + 5)]
    assert main(["decode", "--workdir=w", words("\n".join(lines).encode()), "--batch_size=2"]) == 0
    assert capsys.readouterr().out.splitlines() == [line.upper() for line in lines]
    chunks = [len(asked) for asked, _ in predictor.asked[1:]]
    assert chunks == [2 * command._BATCHES_PER_CHUNK, 5]


def test_no_lines_give_no_lines(predictor, words, capsys):
    assert main(["decode", "--workdir=w", words(b"")]) == 0
    assert capsys.readouterr().out == ""


def test_bad_input_is_reported_before_the_model_is_loaded(predictor, words, tmp_path, capsys):
    assert "words:2: not valid UTF-8" in fails(capsys, words(b"ab\n\xff\xfe\n"))
    assert "nowhere: there is no such file" in fails(capsys, f"--input={tmp_path / 'nowhere'}")
    assert f"{tmp_path}: is a directory" in fails(capsys, f"--input={tmp_path}")
    fine = words(b"ab\n")
    assert "cannot be written" in fails(capsys, fine, f"--output={tmp_path / 'no' / 'out'}")
    assert "is a directory" in fails(capsys, fine, f"--output={tmp_path}")
    assert predictor.asked == []


def test_an_error_while_decoding_keeps_the_old_file(predictor, words, tmp_path, monkeypatch):
    (tmp_path / "out").write_text("old")

    def fail(lines, decode, prefixes):
        raise RuntimeError("half way")

    monkeypatch.setattr(predictor, "n_best", fail)
    with pytest.raises(RuntimeError, match="half way"):
        main(["decode", "--workdir=w", words(b"ab\n"), f"--output={tmp_path / 'out'}"])
    assert (tmp_path / "out").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["out", "words"]


def test_links_and_devices_are_not_replaced(predictor, words, tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert main(["decode", "--workdir=w", words(b"ab\n"), f"--output={tmp_path / 'link'}"]) == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "AB\n"
    assert main(["decode", "--workdir=w", words(b"ab\n"), f"--output={os.devnull}"]) == 0
    assert not os.path.isfile(os.devnull)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_reported(predictor, words, capsys):
    assert "/dev/full: the disk is full" in fails(capsys, words(b"ab\n"), "--output=/dev/full")


def test_unknown_tokens_are_reported_with_their_lines(predictor, words, capsys):
    lines = ["ab", "aüxüb", "cd"] + ["é"] * 12
    assert main(["decode", "--workdir=w", words("\n".join(lines).encode())]) == 0
    messages = capsys.readouterr().err.splitlines()
    assert messages[0] == "line 2: not in the source vocabulary: 'ü', 'x'"
    assert messages[1:10] == [f"line {number}: not in the source vocabulary: 'é'" for number in range(4, 13)]
    assert messages[10:] == ["13 lines have tokens that are not in the source vocabulary"]


def test_scores_that_are_nan_are_null_in_json(predictor, words, monkeypatch, capsys):
    monkeypatch.setattr(predictor, "n_best", lambda lines, decode, prefixes: [[Prediction("", float("nan"))]])
    assert main(["decode", "--workdir=w", words(b"ab\n"), "--format=jsonl"]) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["hypotheses"][0]["score"] is None


def test_workdir_is_required(capsys):
    assert main(["decode"]) == 2
    assert "--workdir" in capsys.readouterr().err
