import dataclasses
import functools
import json
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from flaxformer_lite.checkpoints.work_dir import RunResult, WorkDir, is_resumable
from flaxformer_lite.config import config_keys, migrations
from flaxformer_lite.config.value_types import Options
from flaxformer_lite.data.vocabularies.byte import ByteVocabulary
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary
from flaxformer_lite.errors import InputError
from tests.micro_config import micro


def test_restored_checkpoints_equal_saved_ones(tmp_path):
    folder = WorkDir(tmp_path / "runs" / "new")
    assert not folder.claim(micro())
    assert folder.claim(micro())
    assert folder.config() == micro()
    folder.save_vocabularies(CharacterVocabulary(["b", "ä", "\u2028"]), ByteVocabulary())
    source, target = folder.vocabularies()
    assert source.encode("äb\u2028") == CharacterVocabulary(["b", "ä", "\u2028"]).encode("äb\u2028")
    assert target.size == ByteVocabulary().size
    names = {"config.json", "source.vocabulary.json", "target.vocabulary.json"}
    assert {path.name for path in folder.path.iterdir()} == names  # no temporary files are left


def test_a_config_that_changes_the_run_is_refused_with_the_differences(tmp_path):
    folder = WorkDir(tmp_path)
    folder.claim(micro())
    with pytest.raises(InputError) as caught:
        folder.claim(micro({"model.encoder.dropout": 0.2, "eval.metrics": ("exact_match", "bleu"), "mesh.data": 4}))
    message = str(caught.value)
    assert f"{tmp_path}: holds a run with another config (there → here):" in message
    assert "  model.encoder.dropout: 0.1 → 0.2\n" in message
    assert "eval.metrics" not in message
    assert "mesh" not in message


_SMALLEST = micro()
# A run resumes with a change of any other key. Whoever adds a key decides which applies to it.
_VOCABULARY_KEYS = ("model_type", "tag_pattern", "tag_separator", "special_tokens", "num_sentinels")
_CHANGE_THE_RUN = (
    *(f"data.{side}_vocabulary.{key}" for side in ("source", "target") for key in _VOCABULARY_KEYS),
    *("data.source_subword_sampling", "data.target_subword_sampling"),
    *("seed", "data.task", "data.cmudict.keep_stress", "data.tfds.name", "data.tfds.source_feature"),
    *("data.tfds.target_feature", "data.reverse.alphabet", "data.reverse.min_length", "data.reverse.max_length"),
    *("data.reverse.examples", "data.source_vocabulary.kind", "data.source_vocabulary.size"),
    *("data.source_vocabulary.options", "data.target_vocabulary.kind", "data.target_vocabulary.size"),
    *("data.target_vocabulary.options", "data.share_vocabulary", "data.max_source_length"),
    *(
        "data.max_target_length",
        "data.overlength",
        "data.num_buckets",
        "data.mixture",
        "data.mixture_temperature",
        "data.source_prefix",
        "data.preprocess",
        "data.preprocess_options",
        "data.objective",
        "data.objective_options",
        "data.window_overlap",
        "data.split_at_sentences",
        "data.pack",
        "data.packed_length",
        "train.tokens_per_batch",
        "train.rows_multiple",
        "data.validation_fraction",
        "train.init_from",
        "train.batch_size",
    ),
    *("train.loss", "train.label_smoothing", "train.z_loss", "train.r_drop", "train.loss_terms"),
    *("train.loss_options", "train.distill.teachers", "train.distill.weight", "train.distill.temperature"),
    *("train.ema_decay", "eval.best_metric", "precision.param_dtype", "precision.dtype"),
    *("precision.moment_dtype",),
)


def _changed(key):
    """The smallest config with another, not necessarily valid, value of a key."""
    value, hint = functools.reduce(getattr, key.split("."), _SMALLEST), config_keys.key_type(key)
    if get_origin(hint) is Literal:
        other = next(choice for choice in get_args(hint) if choice != value)
    elif isinstance(value, bool | int | float):
        other = not value if isinstance(value, bool) else value + 1
    else:
        other = Options(other=1) if hint is Options else "a:b" if isinstance(value, str) else () if value else ("a:b",)

    def replaced(group, names):
        inner = other if len(names) == 1 else replaced(getattr(group, names[0]), names[1:])
        return dataclasses.replace(group, **{names[0]: inner})

    return replaced(_SMALLEST, key.split("."))


@pytest.fixture(scope="module")
def claimed(tmp_path_factory):
    folder = WorkDir(tmp_path_factory.mktemp("claimed"))
    folder.claim(_SMALLEST)
    return folder


@pytest.mark.parametrize("key", config_keys.known_keys())
def test_every_key_either_changes_the_run_or_may_change(key, claimed):
    changes = key in _CHANGE_THE_RUN or key.startswith(("optim.", "model."))
    changes = changes and key not in ("model.remat", "model.scan_layers")
    if changes or key == "train.steps":  # the smallest config has the schedule "linear"
        with pytest.raises(InputError, match=rf"\b{key}\b"):
            claimed.claim(_changed(key))
    else:
        assert claimed.claim(_changed(key))
    assert is_resumable(key) is not changes
    assert claimed.config() == _SMALLEST  # claiming records nothing


@pytest.mark.parametrize("schedule", ["constant", "inverse_sqrt", "plateau"])
def test_the_number_of_steps_may_change_where_the_schedule_does_not_depend_on_it(schedule, tmp_path):
    WorkDir(tmp_path).claim(micro({"optim.schedule": schedule}))
    for steps in (6, 100):
        assert WorkDir(tmp_path).claim(micro({"optim.schedule": schedule, "train.steps": steps}))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_another_number_of_steps_that_changes_the_learning_rate_is_refused(schedule, tmp_path):
    WorkDir(tmp_path).claim(micro({"optim.schedule": schedule}))
    reason = (
        rf"config\.train\.steps=24: the learning rate .* depends on its 12 steps \(schedule={schedule}\); start a new"
    )
    with pytest.raises(InputError, match=reason):
        WorkDir(tmp_path).claim(micro({"optim.schedule": schedule, "train.steps": 24}))


def test_wsd_may_get_more_steps_until_its_learning_rate_falls(tmp_path):
    wsd = {"optim.schedule": "wsd", "optim.decay_steps": 4}
    folder = WorkDir(tmp_path)
    folder.claim(micro(wsd))
    for step in (4, 8):
        (folder.checkpoints / str(step)).mkdir(parents=True)
        assert folder.claim(micro(wsd | {"train.steps": 24}))
    (folder.checkpoints / "9").mkdir()
    with pytest.raises(InputError, match=r"has passed step 8, where its learning rate falls; remove its checkpoints"):
        folder.claim(micro(wsd | {"train.steps": 24}))


def test_a_start_records_changed_keys(tmp_path):
    folder = WorkDir(tmp_path)
    folder.claim(micro())
    folder.record_start({"step": 0}, micro())
    folder.save_finish(RunResult(12, 8, 0.5))
    folder.record_start({"step": 12}, micro())
    assert folder.finish() is not None
    folder.record_start({"step": 12}, micro({"train.log_every": 1, "decode.method": "beam"}))
    assert folder.config() == micro({"train.log_every": 1, "decode.method": "beam"})
    assert folder.finish() is None  # until the run ends again
    changes = [start["config_changes"] for start in folder.starts()]
    assert changes == [[], [], ["decode.method: 'greedy' → 'beam'", "train.log_every: 5 → 1"]]


@pytest.mark.parametrize(
    "content", ['{"a": 1}', "[1]", '{"step": "x", "best_step": 1, "best_value": 1}', '{"step": 1, "best_step": 1}']
)
def test_a_damaged_result_is_named(content, tmp_path):
    (tmp_path / "finished.json").write_text(content)
    with pytest.raises(InputError, match=r"finished\.json: .*restore it from a copy"):
        WorkDir(tmp_path).finish()


def test_other_vocabularies_are_refused(tmp_path):
    folder = WorkDir(tmp_path)
    source, target = CharacterVocabulary(["a", "b"]), CharacterVocabulary(["c"])
    folder.save_vocabularies(source, target)
    folder.save_vocabularies(source, target)
    with pytest.raises(InputError, match=r"target\.vocabulary\.json: differs from .* which have changed"):
        folder.save_vocabularies(source, CharacterVocabulary(["c", "d"]))


def test_a_file_in_place_of_the_directory_is_an_error(tmp_path):
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


def test_a_directory_that_is_no_work_directory_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"config\.json: there is no such file; is it the work directory of a run\?"):
        WorkDir(tmp_path / "nothing").config()


def test_an_unknown_key_of_a_saved_config_is_named_with_the_file(tmp_path):
    values = migrations.with_version(dataclasses.asdict(micro()))
    values["model"]["activation"] = "relu"
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"config\.json, config\.model\.activation: there is no such key"):
        WorkDir(tmp_path).config()


@pytest.mark.parametrize("path", ["gs://bucket/run", "s3://bucket/run", "file:///tmp/run"])
def test_an_address_is_not_a_directory(path):
    for given in (path, Path(path)):
        with pytest.raises(InputError, match="must be a directory of a file system; mount the bucket"):
            WorkDir(given)
    WorkDir("C:/run")
