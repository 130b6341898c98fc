"""Run cards read public data sets as they are published."""

from collections import Counter

import pytest

from flaxformer_lite.config import loading
from flaxformer_lite.data import tasks


def _load(real_data, card, folder, train, test, validation=""):
    files = {"train": train, "test": test} | ({"validation": validation} if validation else {})
    flags = [f"--config.data.text.{split}={real_data / folder / name}" for split, name in files.items()]
    return loading.load(card, flags).data


@pytest.mark.parametrize(
    ("split", "train", "test"),
    [("simple", 16_728, 4_182), ("length", 16_990, 3_920), ("addprim_jump", 14_670, 7_706)],
)
def test_scan(real_data, split, train, test):
    config = _load(real_data, "scan", "scan", f"train_{split}.tsv.gz", f"test_{split}.tsv.gz")
    assert sum(map(len, tasks.load_training_splits(config, 0))) == train
    examples = tasks.load(config, "test", 0)
    assert len(examples) == test
    assert Counter(len(these) for these in examples.references) == {1: test}


def test_cogs(real_data):
    config = _load(real_data, "cogs", "cogs", "train.tsv.gz", "gen.tsv.gz", "dev.tsv.gz")
    assert [len(split) for split in tasks.load_training_splits(config, 0)] == [24_155, 3_000]
    groups = tasks.load(config, "test", 0).groups("2")
    assert len(groups) == 21
    assert {len(indices) for indices in groups.values()} == {1_000}


def test_histnorm(real_data):
    files = [f"swedish-gaw.{split}.txt.gz" for split in ("train", "test", "dev")]
    config = _load(real_data, "histnorm", "histnorm", *files)
    train, validation = tasks.load_training_splits(config, 0)
    assert (len(train), len(validation), len(tasks.load(config, "test", 0))) == (28_237, 2_590, 33_544)
    (dropped,) = validation.dropped
    assert (dropped.reason, dropped.count, dropped.first.rpartition(":")[2]) == ("empty source", 60, "36")
    assert (train.sources[0], train.references[0]) == ("Effter", ("Efter",))
    files = [f"icelandic-icepahc.{split}.txt.gz" for split in ("train", "test", "dev")]
    train, validation = tasks.load_training_splits(_load(real_data, "histnorm", "histnorm", *files), 0)
    assert (len(train), len(validation), train.dropped) == (52_440, 6_443, ())


@pytest.mark.parametrize("language", ["ang", "heb", "hun", "kat", "tur"])
def test_inflection(real_data, language):
    files = [f"{language}{suffix}" for suffix in ("_large.train", ".gold", ".dev")]
    config = _load(real_data, "inflection", "sigmorphon2022-inflection", *files)
    train, _ = tasks.load_training_splits(config, 0)
    test = tasks.load(config, "test", 0)
    assert (len(train), len(test)) == (7_000, 1_969 if language == "ang" else 2_000)
    if language == "ang":
        assert (test.sources[0], test.references[0]) == ("innian V;SBJV;PL;PST", ("innoden",))


def test_multi30k_as_files_of_every_kind(real_data, tmp_path):
    """The same pairs, however they are stored; a text of Multi30k contains a tab."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ",".join(str(real_data / "multi30k" / f"train.{language}.gz") for language in ("de", "en"))
    parallel = tasks.load(loading.load("text", [f"--config.data.text.train={names}"]).data, "train", 0)
    assert len(parallel) == 29_000
    sources, targets = parallel.pairs()
    rows = [{"source": source, "target": target} for source, target in zip(sources, targets, strict=True)]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for file in ("a.jsonl", "a.parquet"):
        config = loading.load("text", [f"--config.data.text.train={tmp_path / file}"]).data
        assert tasks.load(config, "train", 0) == parallel
