import dataclasses
import json
from pathlib import Path

import pytest

from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.data.vocabularies.byte import ByteVocabulary
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary
from flaxformer_lite.errors import InputError
from tests.micro import micro


def test_what_goes_in_comes_out(tmp_path):
    folder = WorkDir(tmp_path / "runs" / "new")
    assert not folder.claim(micro())
    assert folder.claim(micro())
    assert folder.config() == micro()
    folder.save_vocabularies(CharacterVocabulary(["b", "ä", "\u2028"]), ByteVocabulary())
    source, target = folder.vocabularies()
    assert source.encode("äb\u2028") == CharacterVocabulary(["b", "ä", "\u2028"]).encode("äb\u2028")
    assert target.size == ByteVocabulary.size
    names = {"config.json", "source.vocabulary.json", "target.vocabulary.json"}
    assert {path.name for path in folder.path.iterdir()} == names  # no drafts are left


def test_another_config_is_told_as_a_difference(tmp_path):
    folder = WorkDir(tmp_path)
    folder.claim(micro())
    assert folder.claim(micro({"mesh.data": 4, "model.scan_layers": True}))  # where it is computed may change
    with pytest.raises(InputError) as caught:
        folder.claim(micro({"model.dropout": 0.2, "eval.metrics": ("exact_match", "bleu"), "mesh.data": 4}))
    message = str(caught.value)
    assert f"--workdir={tmp_path} holds a run with another config (there → here):" in message
    assert "  model.dropout: 0.1 → 0.2\n" in message
    assert "eval.metrics: " in message
    assert "mesh" not in message


def test_other_vocabularies_are_refused(tmp_path):
    folder = WorkDir(tmp_path)
    source, target = CharacterVocabulary(["a", "b"]), CharacterVocabulary(["c"])
    folder.save_vocabularies(source, target)
    folder.save_vocabularies(source, target)
    with pytest.raises(InputError, match=r"target\.vocabulary\.json is not the vocabulary .* they have changed"):
        folder.save_vocabularies(source, CharacterVocabulary(["c", "d"]))


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=rf"{path}: cannot be written"):
            WorkDir(path).claim(micro())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seed": 0}', "\x00" * 40])
def test_a_damaged_config_is_named(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config"):
        WorkDir(tmp_path).config()


def test_a_damaged_vocabulary_is_named(tmp_path):
    folder = WorkDir(tmp_path)
    folder.save_vocabularies(ByteVocabulary(), ByteVocabulary())
    (tmp_path / "target.vocabulary.json").write_text('{"kind": "byte"')
    with pytest.raises(InputError, match=r"target\.vocabulary\.json: cannot be read"):
        folder.vocabularies()


def test_what_is_no_work_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no config\.json; is it the work folder of a run\?"):
        WorkDir(tmp_path / "nothing").config()


def test_a_config_of_another_version_names_the_key(tmp_path):
    values = dataclasses.asdict(micro())
    values["model"]["activation"] = "relu"
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(
        InputError,
        match=r"config\.json is not a config of this version.*config\.model\.activation: there is no such key",
    ):
        WorkDir(tmp_path).config()


@pytest.mark.parametrize("path", ["gs://bucket/run", "s3://bucket/run", "file:///tmp/run"])
def test_an_address_is_no_folder(path):
    for given in (path, Path(path)):
        with pytest.raises(InputError, match="must be a folder of a file system; mount the bucket"):
            WorkDir(given)
    WorkDir("C:/run")
