"""A user's mistake ends in one message and exit code 2, before anything is compiled or a directory is made."""

import os
import re
import shutil
from pathlib import Path

import pytest

from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.cli.main import main
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary
from tests.micro_config import flags, micro, small_disk, use_devices

GOOD = b"ab c\nbc\nca b\n"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, repository):
    """The current directory has valid files and the configs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(repository / "configs")
    for name in ("source", "target"):
        (tmp_path / name).write_bytes(GOOD)


def fails(capfd, *argv):
    """The message of a command that must fail with exit code 2."""
    assert main(list(argv)) == 2
    out, stderr = capfd.readouterr()
    assert out == ""
    assert stderr.startswith("flaxformer-lite: error: ")
    assert "Traceback" not in stderr
    assert "compil" not in stderr
    message = stderr.removeprefix("flaxformer-lite: error: ")
    assert message.count("\n") == 1 or message.startswith("run: holds a run with another config")
    return message.rstrip("\n")


def training(changes=None):
    text = {"data.task": "text", "data.text.train": "source,target", "data.text.validation": "source,target"}
    return ["train", *flags(text | (changes or {})), "--workdir=run"]


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"there is no such file \(looked in /"),
        (b"ab\nbc\n", r"source, bad: have 3 and 2 lines; line i of one must be the translation of line i of the other"),
        (b"ab\nb\xffc\nca\n", r"bad:2: not valid UTF-8 \(b'\\xff'\); fix it, or set config"),
        (b"", r"source, bad: have 3 and 0 lines"),
    ],
    ids=["missing", "unequal", "no UTF-8", "empty"],
)
def test_text_files(split, content, message, capfd):
    if content is not None:
        Path("bad").write_bytes(content)
    stderr = fails(capfd, *training({f"data.text.{split}": "source,bad"}))
    assert re.search(message, stderr)
    assert "bad" in stderr
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", b"", r"config\.data\.text\.train=\('empty',\): is empty"),
        ("one.tsv", b"a\tb\nab\n", r"one\.tsv:2: 1 tab-separated columns instead of 2: 'ab'"),
        ("cut.gz", b"\x1f\x8b\x08\x00", r"cut\.gz: is not a complete gzip file"),
        ("plain.gz", GOOD, r"plain\.gz: is not a complete gzip file"),
        ("folder", None, r"folder: is a folder without files"),
        ("", None, r"config\.data\.text\.train=\('',\): is not set"),
    ],
)
def test_tables(name, content, message, capfd):
    if content is not None:
        Path(name).write_bytes(content)
    elif name:
        Path(name).mkdir()
    assert re.search(message, fails(capfd, *training({"data.text.train": name})))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(capfd):
    Path("source").chmod(0)
    assert "source: cannot be read: Permission denied" in fails(capfd, *training())


def test_a_file_that_breaks_while_it_is_read(capfd, monkeypatch):
    open_file = Path.open

    def broken(path, *rest, **named):
        if path.name == "source":
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *rest, **named)

    monkeypatch.setattr(Path, "open", broken)
    assert "source: cannot be read: Permission denied" in fails(capfd, *training())


def test_every_example_too_long(capfd):
    message = fails(capfd, *training({"data.max_source_length": 2}))
    assert "every one of 3 examples is too long: sources have 3 to 5 tokens" in message
    assert "config.data.overlength='truncate'" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data.tfds.name": "no_such_data_set"},
            r"'no_such_data_set': it is not prepared as ArrayRecord in .*, and preparing it failed",
        ),
        ({}, r"config\.data\.tfds\.name='': is not set"),
    ],
)
def test_data_sets(changes, message, capfd, tmp_path):
    changes = {"data.task": "tfds", "data.tfds.data_dir": str(tmp_path / "data"), **changes}
    assert re.search(message, fails(capfd, "train", *flags(changes), "--workdir=run"))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "--config.model.num_layer=2",
            r"config\.model\.num_layer: there is no such key; did you mean config\.model\.encoder\.num_layers\?",
        ),
        ("--config.train.stepz=2", r"config\.train\.stepz: there is no such key; did you mean config\.train\.steps\?"),
        ("--config.model=2", r"config\.model: is a group of keys"),
        ("--config.model.encoder.num_layers=two", r"config\.model\.encoder\.num_layers.*two"),
        ("--config.model.encoder.num_layers=1.5", r"config\.model\.encoder\.num_layers.*1\.5"),
        ("--config.model.encoder.num_layers=-1", r"config\.model\.encoder\.num_layers=-1: must be at least 1"),
        ("--config.model.encoder.dropout=1.0", r"config\.model\.encoder\.dropout=1\.0: must be below 1"),
        ("--config.optim.learning_rate=nan", r"config\.optim\.learning_rate=nan: must be a finite number"),
        ("--config.data.share_vocabulary=perhaps", r"config\.data\.share_vocabulary"),
        (
            "--config.model.encoder.positions.kind=learnt",
            r"config\.model\.encoder\.positions\.kind='learnt': .* did you mean learned\?",
        ),
        (
            "--config.model.encoder.num_heads=3",
            r"config\.model\.encoder\.num_heads=3: must divide config\.model\.encoder\.width=16",
        ),
        ("--config.model.share_embeddings=all", r"share_embeddings='all': .*; set config\.data\.share_vocabulary=True"),
        ("--config.eval.best_metric=bleu", r"config\.eval\.best_metric='bleu': is not computed"),
        ("--config.parallel.mode=pmapp", r"config\.parallel\.mode='pmapp': .* did you mean pmap\?"),
        ("--config.train.batch_size=9", r"config\.train\.batch_size=9: must be a multiple of 8: 8 shards"),
        ("--config.mesh.data=3", r"config\.mesh\.data=3, .* make a mesh of 3 devices, but there are 8"),
        ("--config.mesh.fsdp=3", r"config\.mesh\.fsdp=3"),
        ("--config.mesh.tensor=8", r"its axis 'heads' of size 2 cannot be divided by config\.mesh\.tensor=8"),
        (
            "--config.data.target_vocabulary.kind=sentencepeace",
            r"kind='sentencepeace': .* did you mean sentencepiece\?",
        ),
        ("--config.data.target_vocabulary.size=3", r"a character vocabulary has at least 5 entries"),
        ("--config.data.reverse.alphabet=", r"config\.data\.reverse\.alphabet='': has no letters"),
        ("--config.train.step", r"config\.train\.step: there is no such key"),
        ("--confg.train.steps=3", r"--confg\.train\.steps: there is no such flag"),
    ],
)
def test_settings(flag, message, capfd):
    stderr = fails(capfd, "train", *flags(), flag, "--workdir=run")
    assert re.search(message, stderr), stderr
    assert not Path("run").exists()


def test_a_work_directory_that_is_a_file(capfd):
    assert (
        fails(capfd, *training()[:-1], "--workdir=source")
        == "source: cannot be written (File exists); choose another path"
    )
    assert "source/config.json: there is no such file" in fails(capfd, "decode", "--workdir=source", "--input=source")


def test_a_work_directory_of_another_config(capfd):
    WorkDir("run").claim(micro({"model.encoder.dropout": 0.2}))
    message = fails(capfd, "train", *flags(), "--workdir=run")
    assert "\n  model.encoder.dropout: 0.2 → 0.1\n" in message
    assert message.endswith("or undo the difference to resume that one")


@pytest.mark.parametrize("command", ["decode", "evaluate"])
def test_a_work_directory_without_a_checkpoint(command, capfd):
    arguments = [command, "--workdir=run"] + ["--input=source"] * (command == "decode")
    use = "is it the work directory of a run?"
    assert fails(capfd, *arguments) == f"run/config.json: there is no such file; {use}"
    WorkDir("run").claim(micro())
    assert fails(capfd, *arguments) == f"--workdir=run: has no source.vocabulary.json; {use}"
    WorkDir("run").save_vocabularies(CharacterVocabulary("ab"), CharacterVocabulary("ab"))
    assert fails(capfd, *arguments) == "run/checkpoints: there are no checkpoints; has the run been trained?"
    Path("run/checkpoints").mkdir()
    assert fails(capfd, *arguments) == "run/checkpoints: there are no checkpoints yet"
    assert "there is no checkpoint of step 7; there is none yet" in fails(capfd, *arguments, "--step=7")


def test_decodes_own_files(capfd):
    Path("bad").write_bytes(b"ab\n\xc3\n")
    assert fails(capfd, "decode", "--workdir=run", "--input=missing").startswith("missing: there is no such file")
    assert fails(capfd, "decode", "--workdir=run", "--input=bad").startswith("bad:2: not valid UTF-8")
    message = fails(capfd, "decode", "--workdir=run", "--input=source", "--output=nowhere/out")
    assert message.startswith("--output=nowhere/out: cannot be written")


def test_checkpoints_that_are_all_damaged(capfd, monkeypatch):
    use_devices(monkeypatch, 1)
    WorkDir("run").claim(micro())
    WorkDir("run").save_vocabularies(CharacterVocabulary("ab"), CharacterVocabulary("ab"))
    for step in (3, 4):
        Path(f"run/checkpoints/{step}/params").mkdir(parents=True)
    assert main(["decode", "--workdir=run", "--input=source"]) == 2
    _, stderr = capfd.readouterr()
    lines = stderr.splitlines()
    assert [line.partition(" (")[0] for line in lines[:2]] == [
        "checkpoint run/checkpoints/4 is damaged",
        "checkpoint run/checkpoints/3 is damaged",
    ]
    assert lines[2:] == ["flaxformer-lite: error: run/checkpoints: all checkpoints (steps [3, 4]) are damaged"]
    assert fails(capfd, "decode", "--workdir=run", "--input=source", "--step=3").startswith(
        "checkpoint run/checkpoints/3: is damaged ("
    )


def test_a_full_disk_from_the_start(capfd, tmp_path):
    with small_disk(tmp_path / "disk", "4k") as disk:
        (disk / "other").write_bytes(bytes(4096))
        message = fails(capfd, *training()[:-1], f"--workdir={disk}")
    assert message.startswith(f"{disk}/config.json: the disk is full (No space left on device)")


@pytest.mark.slow
def test_a_disk_that_fills_up_while_training(capfd, tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    with small_disk(tmp_path / "disk", "900k") as disk:
        run = disk / "run"
        arguments = ["train", *flags({"train.keep_latest": 9, "train.eval_every": 100}), f"--workdir={run}"]
        assert main(arguments) == 2
        stderr = capfd.readouterr().err
        errors = [line for line in stderr.splitlines() if "error" in line]
        assert len(errors) == 1
        assert re.match(
            rf"flaxformer-lite: error: {run}/.*: the disk is full \(No space left on device\); free some space",
            errors[0],
        )
        assert "Traceback" not in stderr
        shutil.copytree(run, tmp_path / "run")
    assert main([*arguments[:-1], "--workdir=run"]) == 0  # with room it resumes
    assert re.search(r"resuming from step \d", capfd.readouterr().err)
