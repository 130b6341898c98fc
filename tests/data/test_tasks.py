"""Sources and references of each task, held-out validation splits, and errors."""

import dataclasses
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from flaxformer_lite.config.defaults import get_config
from flaxformer_lite.config.parsing import from_dict
from flaxformer_lite.data import tasks
from flaxformer_lite.data.tasks import Examples
from flaxformer_lite.errors import InputError


def _config(task, validation_fraction=0.0, **changes):
    config = get_config()
    config.data.task = task
    config.data.validation_fraction = validation_fraction
    config.data.update({"options" if ":" in task else task: changes})
    return from_dict(config.to_dict()).data


@pytest.fixture
def files(tmp_path):
    texts = {
        "train.de": "eins\nzwei\n", "train.en": "one\ntwo\n", "short.en": "one\n", "empty": "",
        "g2p.tsv": "lead\tL IY D\nread\tR IY D\nlead\tL EH D\n",
        "g2p.words": "lead\nread\nlead\n", "g2p.phones": "L IY D\nR IY D\nL EH D\n",
        "ten.tsv": "".join(f"{i}\t{i}\n" for i in range(10)),
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return lambda *names: tuple(str(tmp_path / name) for name in names)


def test_pairs_repeat_a_source_for_each_reference():
    examples = Examples(["a", "b", "c"], [("x", "y"), ("z",), ("u", "v")])
    assert examples.pairs() == (["a", "a", "b", "c", "c"], ["x", "y", "z", "u", "v"])


def test_samples_are_evenly_spaced():
    examples = Examples([str(i) for i in range(10)], [(str(-i),) for i in range(10)])
    assert examples.sample(3) == Examples(["0", "3", "6"], [("0",), ("-3",), ("-6",)])
    assert examples.sample(0) is examples.sample(10) is examples.sample(99) is examples


def test_parallel_files(files):
    config = _config("text", train=files("train.de", "train.en"))
    assert tasks.load(config, "train", 0) == Examples(["eins", "zwei"], [("one",), ("two",)])


@pytest.mark.parametrize("group_references", [False, True])
def test_a_tsv_is_scored_as_two_files_of_the_same_pairs_are(files, group_references):
    options = {"group_references": group_references}
    tsv = tasks.load(_config("text", test=files("g2p.tsv"), **options), "test", 0)
    parallel = tasks.load(_config("text", test=files("g2p.words", "g2p.phones"), **options), "test", 0)
    assert parallel == Examples(["lead", "read", "lead"], [("L IY D",), ("R IY D",), ("L EH D",)])
    if group_references:
        assert tsv == Examples(["lead", "read"], [("L IY D", "L EH D"), ("R IY D",)])
    else:
        assert tsv == parallel


def test_plain_text_has_no_targets(files):
    with pytest.raises(InputError, match=r"test=\(.*train\.de.* is plain text without targets .*; give \('source"):
        tasks.load(_config("text", test=files("train.de")), "test", 0)


def test_an_objective_needs_no_targets(files):
    for names in (["train.de"], ["train.de", "train.en"]):
        config = dataclasses.replace(_config("text", train=files(*names)), objective="span_corruption")
        assert tasks.load(config, "train", 0).sources == ["eins", "zwei"]


def test_dropped_rows_belong_to_the_split_that_held_out_the_other(files, tmp_path):
    (tmp_path / "ten.tsv").write_text("".join(f"{i}\t{i}\n" for i in range(10)) + "bad\n")
    config = dataclasses.replace(_config("text", 0.3, train=files("ten.tsv")), on_bad_row="drop")
    train, validation = tasks.load_training_splits(config, 0)
    assert (len(train), len(validation), validation.dropped) == (7, 3, ())
    assert [str(rows) for rows in train.dropped] == [
        f"1 row dropped, wrong number of columns; the first is {tmp_path}/ten.tsv:11: 1 tab-separated columns instead "
        "of 2: 'bad'"
    ]


def test_a_split_of_bad_rows_only_is_an_error(files, tmp_path):
    (tmp_path / "ten.tsv").write_text("a\t\n" * 3)
    config = dataclasses.replace(_config("text", test=files("ten.tsv")), on_bad_row="drop")
    with pytest.raises(InputError, match=r"is empty, because every row is bad; 3 rows dropped, empty target; .*tsv:1"):
        tasks.load(config, "test", 0)


def test_unequal_line_counts_are_both_named(files):
    config = _config("text", train=files("train.de", "short.en"))
    with pytest.raises(InputError, match=r"train\.de, .*short\.en: have 2 and 1 lines"):
        tasks.load(config, "train", 0)


@pytest.mark.parametrize("names", [("empty", "empty"), ("empty",)])
def test_an_empty_data_set_is_an_error(files, names):
    with pytest.raises(InputError, match=r"config\.data\.text\.validation=.*is empty"):
        tasks.load(_config("text", validation=files(*names)), "validation", 0)


@pytest.mark.parametrize("value", [(), ("",), ("a", "")])
def test_a_split_without_files_names_its_key(value):
    with pytest.raises(InputError, match=r"config\.data\.text\.test=.* is not set"):
        tasks.load(_config("text", test=value), "test", 0)


def test_three_files_are_an_error(files):
    with pytest.raises(InputError, match="not 3"):
        tasks.load(_config("text", test=files("empty", "empty", "empty")), "test", 0)


def test_a_missing_validation_split_is_held_out_from_training(files):
    config = _config("text", 0.3, train=files("ten.tsv"))
    train, validation = tasks.load_training_splits(config, 0)
    assert validation.sources == ["3", "6", "9"]
    assert train.sources == ["0", "1", "2", "4", "5", "7", "8"]
    assert (tasks.load(config, "train", 1), tasks.load(config, "validation", 2)) == (train, validation)


def test_a_missing_validation_split_names_the_key_that_holds_one_out(files):
    with pytest.raises(InputError, match=r"text\.validation=.*set config\.data\.validation_fraction=0\.05"):
        tasks.load(_config("text", train=files("ten.tsv")), "validation", 0)
    with pytest.raises(InputError, match=r"validation_fraction=0\.05: .*10 for training and 0 for validation"):
        tasks.load(_config("text", 0.05, train=files("ten.tsv")), "validation", 0)


@pytest.mark.parametrize(("task", "changes"), [("reverse", {}), ("text", {"validation": ("a", "b")})])
def test_a_validation_split_that_exists_is_not_held_out(task, changes):
    with pytest.raises(InputError, match=r"validation_fraction=0\.1: .* has a validation split; set it to 0"):
        _config(task, 0.1, **changes)


@dataclass
class Doubling:
    """A task of a user: lengths of strings and their doubles."""

    lengths: tuple[int, ...] = (1, 2, 3, 4)
    broken: bool = False

    def __call__(self, split, seed):
        yield f"{split} {seed}", ["a", "b"]
        for length in self.lengths:
            yield "x" * length, 1 if self.broken else "x" * 2 * length


@pytest.fixture
def doubling(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_tasks", SimpleNamespace(Doubling=Doubling))
    monkeypatch.setitem(sys.modules, Doubling.__module__, sys.modules.get(Doubling.__module__) or SimpleNamespace())
    return "my_tasks:Doubling"


def test_a_task_named_by_an_import_path(doubling):
    config = _config(doubling, lengths=(2, 1))
    assert tasks.load(config, "test", 7) == Examples(["test 7", "xx", "x"], [("a", "b"), ("xxxx",), ("xx",)])
    train, validation = tasks.load_training_splits(_config(doubling, 0.5), 3)
    assert train.sources == ["train 3", "xx", "xxxx"]
    assert validation.sources == ["x", "xxx"]


def test_errors_of_a_task_named_by_an_import_path(doubling):
    with pytest.raises(InputError, match=r"example 1 of split 'train': must be a source and its references.*, 1"):
        tasks.load(_config(doubling, broken=True), "train", 0)
    with pytest.raises(InputError, match=r"config\.data\.options\.length: .*did you mean lengths"):
        tasks.load(_config(doubling, length=3), "train", 0)
    with pytest.raises(InputError, match=r"config\.data\.task='no_such_package:Task': there is no module"):
        tasks.load(_config("no_such_package:Task"), "train", 0)


def test_reverse():
    config = _config("reverse", alphabet="abc", min_length=2, max_length=5, examples=500)
    splits = {split: tasks.load(config, split, 7) for split in ("train", "validation", "test")}
    assert [len(examples) for examples in splits.values()] == [500, 50, 50]
    for examples in splits.values():
        assert examples.references == [(source[::-1],) for source in examples.sources]
        assert set("".join(examples.sources)) == set("abc")
    counts = np.bincount([len(source) for source in splits["train"].sources])
    assert counts[:2].sum() == 0
    assert counts[2:] == pytest.approx([125] * 4, abs=40)


def test_reverse_depends_on_seed_and_split_only():
    config = _config("reverse", min_length=8)
    load = tasks.load
    assert load(config, "train", 1) == load(config, "train", 1)
    assert load(config, "train", 1) != load(config, "train", 2)
    assert load(config, "validation", 1) != load(config, "test", 1)
    assert not set(load(config, "validation", 1).sources) & set(load(config, "train", 1).sources)


def test_reverse_without_letters():
    with pytest.raises(InputError, match=r"config\.data\.reverse\.alphabet"):
        tasks.load(_config("reverse", alphabet=""), "train", 0)


def test_real_text(real_data):
    multi30k, g2p = real_data / "multi30k", real_data / "sigmorphon2020-g2p"
    files = tuple(str(multi30k / f"train.{language}.gz") for language in ("de", "en"))
    assert len(tasks.load(_config("text", train=files), "train", 0)) == 29_000
    for file in sorted((g2p / "test").glob("*.tsv")):
        examples = tasks.load(_config("text", test=(str(file),)), "test", 0)
        assert sum(map(len, examples.references)) == 450, file
