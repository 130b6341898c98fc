"""TFDS data sets are read from their files, without the code that created them, TensorFlow or a network."""

import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from flaxformer_lite.config.defaults import get_config
from flaxformer_lite.config.parsing import from_dict
from flaxformer_lite.data import tasks
from flaxformer_lite.data import tfds as tfds_reader
from flaxformer_lite.data.tasks import Examples
from flaxformer_lite.errors import InputError


class TinyTranslate(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    # Not registered, so it is read like a data set whose code needs TensorFlow.

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="de-en")]  # noqa: RUF012 (TFDS reads it from the class)

    def _info(self):
        features = {
            "translation": tfds.features.Translation(["de", "en"]),
            "others": tfds.features.Sequence(tfds.features.Text()),
            "none": tfds.features.Sequence(tfds.features.Text()),
            "year": tfds.features.Scalar(np.int32),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples(5), "validation": self._generate_examples(3)}

    def _generate_examples(self, count):
        for i in range(count):
            yield (
                i,
                {
                    "translation": {"de": f"Bär {i}", "en": f"bear {i}"},
                    "others": [f"ours {n}" for n in range(i % 2 + 1)],
                    "none": [],
                    "year": 2000 + i,
                },
            )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    tfds_reader.prepare(TinyTranslate(data_dir=folder, file_format="array_record"))
    return folder


def _load(data_dir, split="train", validation_fraction=0.0, **changes):
    config = get_config()
    config.data.task = "tfds"
    config.data.validation_fraction = validation_fraction
    tfds_config = {
        "name": "tiny_translate/de-en",
        "source_feature": "translation/de",
        "target_feature": "translation/en",
    }
    config.data.update({"tfds": tfds_config | {"data_dir": data_dir} | changes})
    return tasks.load(from_dict(config.to_dict()).data, split, 0)


def test_two_text_features(data_dir):
    assert _load(data_dir, "validation") == Examples(
        ["Bär 0", "Bär 1", "Bär 2"], [("bear 0",), ("bear 1",), ("bear 2",)]
    )
    assert len(_load(data_dir)) == 5


def test_a_sequence_of_texts_is_several_references(data_dir):
    examples = _load(data_dir, "validation", target_feature="others")
    assert examples.references == [("ours 0",), ("ours 0", "ours 1"), ("ours 0",)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_feature": "others"}, "example 1 of its train split has 2 texts in feature 'others'"),
        ({"target_feature": "none"}, "example 0 of its train split has .* and 0 in 'none'"),
    ],
)
def test_an_example_needs_one_source_and_a_reference(data_dir, changes, message):
    with pytest.raises(InputError, match=message):
        _load(data_dir, **changes)


@pytest.mark.parametrize("feature", ["nonsense", "year", ""])
def test_an_unknown_feature_is_named_with_the_known_ones(data_dir, feature):
    with pytest.raises(
        InputError, match=rf"no text feature '{feature}'.* are none, others, translation/de, translation/en"
    ):
        _load(data_dir, target_feature=feature)


def test_an_unknown_split_is_named_with_the_known_ones(data_dir):
    with pytest.raises(InputError, match="no split 'test'; its splits are train, validation"):
        _load(data_dir, "test")


def test_a_validation_split_that_exists_is_not_held_out(data_dir):
    with pytest.raises(InputError, match=r"validation_fraction=0\.5: .* has a validation split"):
        _load(data_dir, validation_fraction=0.5)


@pytest.mark.parametrize("name", ["tiny_translate/fr-en", "no_such_data", "wmt14_translate/de-en"])
def test_an_unprepared_data_set_is_an_error_with_instructions(data_dir, name):
    with pytest.raises(InputError) as error:
        _load(data_dir, name=name)
    for part in (f"name='{name}'", data_dir, f"tfds build {name} --file_format=array_record --data_dir={data_dir}"):
        assert part in str(error.value)


@pytest.mark.parametrize("inside", ["tiny_translate", "tiny_translate/de-en", "tiny_translate/de-en/1.0.0"])
def test_a_folder_of_one_data_set_or_version_is_named(data_dir, inside):
    message = rf"data_dir='{data_dir}/{inside}': is the folder of one data set or .*; set it to '{data_dir}'"
    with pytest.raises(InputError, match=message):
        _load(f"{data_dir}/{inside}")


def test_a_missing_version_is_named_with_those_that_are_there(data_dir):
    assert len(_load(data_dir, name="tiny_translate/de-en:1.0.0")) == 5
    with pytest.raises(InputError, match=rf"version 2\.1\.0 is not prepared in {data_dir}; there are 1\.0\.0$"):
        _load(data_dir, name="tiny_translate/de-en:2.1.0")


@pytest.mark.parametrize("name", ["tiny_translate/de-en", "tiny_translate/de-en:1.0.0"])
def test_records_of_tensorflow_are_to_be_converted(data_dir, tmp_path, name):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "tiny_translate/de-en/1.0.0"
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    for shard in folder.glob("*array_record*"):
        shard.rename(str(shard).replace("array_record", "tfrecord"))
    command = f"tfds convert_format --dataset_version_dir={folder} --out_file_format=array_record"
    with pytest.raises(InputError, match=rf"it is prepared as tfrecord in .*convert it: {command}$"):
        _load(str(tmp_path), name=name)


def test_a_name_is_needed(data_dir):
    with pytest.raises(InputError, match=r"config\.data\.tfds\.name='': is not set"):
        _load(data_dir, name="")


def test_a_process_that_prepares_second_uses_the_data_of_the_first(tmp_path, monkeypatch, caplog, capsys):
    caplog.set_level("INFO", logger="flaxformer_lite")
    builders = [TinyTranslate(data_dir=str(tmp_path), file_format="array_record") for _ in range(3)]
    tfds_reader.prepare(builders[0])
    tfds_reader.prepare(builders[1])  # created before the data existed
    assert tfds_reader.read_texts(builders[1], "validation", ["translation/de"]) == [
        [("Bär 0",), ("Bär 1",), ("Bär 2",)]
    ]

    def lose_the_race(**_):
        raise OSError("Directory not empty")

    monkeypatch.setattr(builders[2], "download_and_prepare", lose_the_race)
    tfds_reader.prepare(builders[2])
    assert "validation" in builders[2].info.splits
    assert capsys.readouterr().out == ""
    assert "preparing data set tiny_translate/de-en/1.0.0" in caplog.text
