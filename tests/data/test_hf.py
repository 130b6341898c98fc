"""Hugging Face datasets that are saved on disk: text fields, bad rows, and errors."""

import dataclasses
import sys

import pytest

from flaxformer_lite.config.defaults import get_config
from flaxformer_lite.config.parsing import from_dict
from flaxformer_lite.data import tasks
from flaxformer_lite.data.examples import Examples
from flaxformer_lite.errors import InputError

_TRAIN = [{"de": f"Bär {i}", "en": f"bear {i}"} for i in range(7)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a saved dataset of two splits."""
    datasets = pytest.importorskip("datasets", reason="the extra `datasets` is not installed")
    datasets.disable_progress_bars()
    path = str(tmp_path_factory.mktemp("hf"))
    rows = {"train": _TRAIN, "test": [{"de": "eins", "en": "one"}, {"de": None, "en": "x"}, {"de": "zwei", "en": " "}]}
    dataset = datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict({"translation": these, "id": list(range(len(these)))})
            for split, these in rows.items()
        }
    )
    dataset["train"] = dataset["train"].select([6, 5, 4, 3, 2, 1, 0])  # an order that is stored beside the data
    dataset.save_to_disk(f"{path}/both")
    dataset["train"].save_to_disk(f"{path}/one")
    return path


def _config(folder, validation_fraction=0.0, on_bad_row="error", **changes):
    config = get_config()
    config.data.task = "hf"
    config.data.validation_fraction = validation_fraction
    config.data.on_bad_row = on_bad_row
    given = {"name_or_path": f"{folder}/both", "source_field": "translation/de", "target_field": "translation/en"}
    config.data.update({"hf": given | changes})
    return from_dict(config.to_dict()).data


def test_a_split_of_a_saved_dataset(folder):
    train = tasks.load(_config(folder), "train", 0)
    assert train == Examples([row["de"] for row in _TRAIN[::-1]], [(row["en"],) for row in _TRAIN[::-1]])
    assert tasks.load(_config(folder, name_or_path=f"{folder}/one"), "train", 0) == train


def test_bad_rows(folder):
    with pytest.raises(InputError, match=r"both/test:2: has no value in field 'translation/de'; fix it, or set "):
        tasks.load(_config(folder), "test", 0)
    found = tasks.load(_config(folder, on_bad_row="drop"), "test", 0)
    assert found.sources == ["eins"]
    assert [(rows.reason, rows.first) for rows in found.dropped] == [
        ("missing field", f"{folder}/both/test:2"), ("empty target", f"{folder}/both/test:3")
    ]  # fmt: skip


def test_a_validation_split_is_held_out(folder):
    train, validation = tasks.load_training_splits(_config(folder, 0.3), 0)
    assert (len(train), len(validation)) == (5, 2)
    with pytest.raises(
        InputError, match=r"both': it has no split 'validation'; its splits are train, test; set config"
    ):
        tasks.load_training_splits(_config(folder), 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name_or_path": ""}, r"name_or_path='': is not set; give a folder that save_to_disk wrote, or a name"),
        ({"source_field": "translation/fr"}, r"has no field 'translation/fr'; its text fields are 'translation/de', "),
        ({"source_field": "id"}, r"both, split train: field 'id' is no text but int64"),
        ({"name_or_path": "/no/such/folder"}, r"name_or_path='/no/such/folder': cannot be read: \w+: "),
    ],
)
def test_errors(folder, changes, message, monkeypatch):
    with pytest.raises(InputError, match=message):
        tasks.load(_config(folder, **changes), "train", 0)


def test_the_package_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"task='hf' needs the package datasets; pip install 'flaxformer-lite\[datas"):
        tasks.load(_config("folder"), "train", 0)


def test_a_dataset_of_the_cache(folder, monkeypatch):
    import datasets

    asked = []

    def load_dataset(*names):
        asked.append(names)
        return datasets.load_from_disk(f"{folder}/both")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = _config(folder, name_or_path="wmt14", config_name="de-en")
    assert tasks.load(config, "train", 0) == tasks.load(_config(folder), "train", 0)
    assert set(asked) == {("wmt14", "de-en")}
    tasks.load(dataclasses.replace(config, hf=dataclasses.replace(config.hf, config_name="")), "train", 0)
    assert asked[-1] == ("wmt14", None)
