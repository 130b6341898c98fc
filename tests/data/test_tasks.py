"""Each task gives sources and references, or one clear error."""

import numpy as np
import pytest

from flaxformer_lite.config.defaults import get_config
from flaxformer_lite.config.parsing import from_dict
from flaxformer_lite.data import tasks
from flaxformer_lite.data.tasks import Examples
from flaxformer_lite.errors import InputError


def _config(task, **changes):
    config = get_config()
    config.data.task = task
    config.data.update({task: changes})
    return from_dict(config.to_dict()).data


@pytest.fixture
def files(tmp_path):
    texts = {
        "train.de": "eins\nzwei\n", "train.en": "one\ntwo\n", "short.en": "one\n", "empty": "",
        "g2p.tsv": "lead\tL IY D\nread\tR IY D\nlead\tL EH D\n",
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return lambda *names: tuple(str(tmp_path / name) for name in names)


def test_pairs_repeat_a_source_for_each_reference():
    examples = Examples(["a", "b", "c"], [("x", "y"), ("z",), ("u", "v")])
    assert examples.pairs() == (["a", "a", "b", "c", "c"], ["x", "y", "z", "u", "v"])


def test_a_sample_is_spread_over_everything():
    examples = Examples([str(i) for i in range(10)], [(str(-i),) for i in range(10)])
    assert examples.sample(3) == Examples(["0", "3", "6"], [("0",), ("-3",), ("-6",)])
    assert examples.sample(0) is examples.sample(10) is examples.sample(99) is examples


def test_parallel_files(files):
    config = _config("text", train=files("train.de", "train.en"))
    assert tasks.load(config, "train", 0) == Examples(["eins", "zwei"], [("one",), ("two",)])


def test_repeated_sources_of_a_tsv_are_one_example(files):
    config = _config("text", test=files("g2p.tsv"))
    assert tasks.load(config, "test", 0) == Examples(["lead", "read"], [("L IY D", "L EH D"), ("R IY D",)])


def test_unequal_line_counts_are_both_named(files):
    config = _config("text", train=files("train.de", "short.en"))
    with pytest.raises(InputError, match=r"train\.de has 2 lines and .*short\.en 1"):
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


def test_reverse_depends_on_seed_and_split_alone():
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
