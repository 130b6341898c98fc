"""The description of data: counts, examples as arrays, overlong examples."""

import re

import pytest

from flaxformer_lite.cli import main as cli


@pytest.fixture
def flags(repository):
    return [
        "data",
        f"--config={repository / 'flaxformer_lite' / 'config' / 'defaults.py'}",
        "--config.data.reverse.examples=400",
    ]


def _lines(capsys, arguments):
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def test_counts(flags, capsys):
    lines = _lines(capsys, [*flags, "--config.data.max_source_length=8"])
    rows = [re.split(r" {2,}", line.strip()) for line in lines]
    train = next(row for row in rows if row[0] == "training")
    validation = next(row for row in rows if row[0] == "validation")
    assert (train[1], validation[1]) == ("400", "40")
    dropped = int(train[2].split()[0])
    assert 80 < dropped < 160  # lengths of 8, 9 and 10 of 1 to 10, and the end token
    assert (train[3], validation[2]) == ("0 (0.0 %)", "0 (0.0 %)")
    assert int(validation[3].split()[0]) > 0
    assert ["source", "character", "14", "0 (0.0 %)", "0 (0.0 %)"] in rows
    assert next(row for row in rows if row[0] == "all")[1] == f"{400 - dropped}"
    shares = [row[3] for row in rows if re.match(r"\d+ \+ \d+$", row[0])]
    assert sum(float(share.removesuffix(" %")) for share in shares) == pytest.approx(100, abs=0.3)


def test_examples_as_text_and_arrays(flags, capsys):
    text = "\n".join(_lines(capsys, [*flags, "--examples=2", "--config.data.reverse.alphabet=a b"]))
    shown = re.findall(r"Decoded  '(.*)'\n +'(.*)'", text)
    assert len(shown) == 2
    assert all(source[::-1] == target for source, target in shown)
    assert re.search(r"target_in +<begin>.*\n +ids +2 .*\n +segments +1 .*\n +positions +0 ", text)
    assert re.search(r"labels .*<end>.*\n +ids .*\n +weights ", text)


def test_truncated_examples(flags, capsys):
    arguments = [*flags, "--examples=1", "--config.data.reverse.min_length=10"]
    arguments += ["--config.data.max_target_length=5", "--config.data.overlength=truncate"]
    text = "\n".join(_lines(capsys, arguments))
    assert re.search(r"training +400 +0 \(0.0 %\) +400 \(100.0 %\)", text)
    source, target = re.search(r"Decoded  '(.*)'\n +'(.*)'", text).groups()
    assert target == source[::-1][:4]


def test_packed_rows_are_shown_with_their_segments(flags, capsys):
    arguments = [*flags, "--examples=2", "--config.data.pack=True", "--config.data.packed_length=24"]
    text = "\n".join(_lines(capsys, arguments))
    assert "Packed rows of training" in text
    assert re.search(r"segments(\s+1)+(\s+2)+", text)
    decoded = re.findall(r"Decoded  '(.*)'\n +'(.*)'", text)
    assert len(decoded) > 2
    assert all(source[::-1] == target for source, target in decoded)


@pytest.mark.parametrize("examples", ["-1", "many"])
def test_invalid_numbers_of_examples(flags, capsys, examples):
    assert cli.main([*flags, f"--examples={examples}"]) == 2
    assert "--examples" in capsys.readouterr().err


def test_rows_that_were_dropped_are_counted_with_the_first(capsys, tmp_path):
    (tmp_path / "train.tsv").write_text("a\tb\nc\nb\ta\n\tx\n\n", "utf-8")
    (tmp_path / "validation.tsv").write_text("a\t\nb\ta\n", "utf-8")
    flags = [f"--config.data.text.{split}={tmp_path / split}.tsv" for split in ("train", "validation")]
    flags += ["--config=wikipron", "--config.data.on_bad_row=drop", "--examples=0"]
    shown = "\n".join(_lines(capsys, ["data", *flags]))
    columns = "2 rows dropped, wrong number of columns; the first is"
    assert f"  training: {columns} {tmp_path}/train.tsv:2: 1 tab-separated columns instead of 2: 'c'" in shown
    assert f"  training: 1 row dropped, empty source; the first is {tmp_path}/train.tsv:4: has an empty source" in shown
    assert f"  validation: 1 row dropped, empty target; the first is {tmp_path}/validation.tsv:1: has an" in shown
