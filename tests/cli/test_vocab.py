"""The command that builds vocabularies: files, summary, use of the files, errors."""

import json
import random
import re

import pytest
import sentencepiece

from flaxformer_lite.cli import main as cli
from flaxformer_lite.data.vocabularies.saved import read_saved


@pytest.fixture
def flags(repository, tmp_path):
    generator = random.Random(0)
    for side in ("de", "en"):
        lines = [" ".join(generator.choices(["ein", "zwei", "drei", "haus", "maus"], k=5)) for _ in range(99)]
        (tmp_path / f"train.{side}").write_text("\n".join(lines) + "\n")
    return [
        "vocab",
        f"--config={repository / 'flaxformer_lite' / 'config' / 'defaults.py'}",
        "--config.data.task=text",
        f"--config.data.text.train={tmp_path / 'train.de'},{tmp_path / 'train.en'}",
        f"--output={tmp_path / 'new'}",
    ]


def _both(**changes):
    sides = ("source", "target")
    return [f"--config.data.{side}_vocabulary.{key}={value}" for side in sides for key, value in changes.items()]


def _rows(capsys):
    captured = capsys.readouterr()
    return [re.split(r" {2,}", line.strip()) for line in captured.out.splitlines()], captured.err


def test_two_vocabularies(flags, tmp_path, capsys):
    assert cli.main([*flags, "--top=2", "--config.data.target_vocabulary.kind=word"]) == 0
    rows, messages = _rows(capsys)
    source, target = (read_saved(tmp_path / f"new.{side}.vocabulary.json") for side in ("source", "target"))
    assert (source.size, target.size) == (4 + 13, 4 + 5)
    assert sorted(path.name for path in tmp_path.glob("new*")) == [
        *("new.source.vocabulary.json", "new.target.vocabulary.json"),
    ]
    assert f"wrote {tmp_path}/new.target.vocabulary.json" in messages
    assert ["Vocabularies, measured on 99 of 99 and 99 of 99 lines of the training split, evenly spread"] in rows
    summaries = {row[0]: row[1:] for row in rows if row[0] in ("source", "target")}
    assert summaries["source"][:3] == ["17", "0", "1.000"]
    assert summaries["target"][3:] == ["1.00", "0 (0.00%)"]
    assert rows.index(["Most frequent tokens, target"]) == rows.index(["Most frequent tokens, source"]) + 5


def test_a_shared_sentencepiece_vocabulary_is_used_by_kind_saved(flags, tmp_path, capsys):
    options = _both(kind="sentencepiece", size=290, special_tokens="<mask>", num_sentinels=3)
    assert cli.main([*flags, *options, "--config.data.share_vocabulary=True"]) == 0
    rows, _ = _rows(capsys)
    path = tmp_path / "new.vocabulary.json"
    saved = read_saved(path)
    assert saved.special_tokens == {
        token: saved.size - 4 + i for i, token in enumerate(["<mask>", *(f"<extra_id_{i}>" for i in (2, 1, 0))])
    }
    assert ["shared", f"{saved.size}", "4"] in [row[:3] for row in rows]
    assert any(re.fullmatch(r"0\.\d{4}", row[-1]) for row in rows)  # probabilities of pieces
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "new.model"))
    assert model.get_piece_size() == saved.size - 4 - 3
    kind_saved = [*_both(kind="saved", model=path), "--config.data.share_vocabulary=True"]
    assert cli.main([*flags[:-1], f"--output={tmp_path / 'again.vocabulary.json'}", *kind_saved]) == 0
    assert json.loads((tmp_path / "again.vocabulary.json").read_text()) == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--output=nowhere/new", "--output=nowhere/new.vocabulary.json: cannot be written"),
        ("--output=.vocabulary.json", "--output=.vocabulary.json: is a directory"),
        ("--top=-1", "--top=-1: must be at least 0"),
    ],
)
def test_wrong_flags(flag, message, flags, capsys):
    assert cli.main([*flags, flag]) == 2
    assert message in capsys.readouterr().err


def test_an_output_is_needed(flags, capsys):
    assert cli.main(flags[:-1]) == 2
    assert "--output" in capsys.readouterr().err
