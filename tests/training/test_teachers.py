"""Teachers of distillation: loading, and errors before anything is compiled."""

import jax
import numpy as np
import pytest

from flaxformer_lite.config.dataclasses import MeshConfig
from flaxformer_lite.data.vocabularies.byte import ByteVocabulary
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary, WordVocabulary
from flaxformer_lite.errors import InputError
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.training import loop
from flaxformer_lite.training.teachers import load_teachers
from tests.micro_config import micro
from tests.work_dirs import LETTERS, make_folder

OTHERS = {
    "word there, character here": WordVocabulary(list("abcdefghij")),
    "byte there, character here": ByteVocabulary(),
    "13 entries there, 14 here": CharacterVocabulary("abcdefghi"),
    "'d' there, 'c' here": CharacterVocabulary("abdcefghij"),
}


def load(config, steps=None):
    layout = MeshLayout(MeshConfig(-1, 1, 1), devices=jax.devices()[:2])
    return load_teachers(config, (LETTERS, LETTERS), steps or {}, layout)


def distill_config(*folders, **changes):
    return micro({"train.distill.teachers": tuple(map(str, folders)), **changes})


def test_teachers_of_any_architecture_are_replicated(tmp_path):
    deep = make_folder(tmp_path / "deep", micro({"model.decoder.num_layers": 3}), (10, 20))
    recurrent = make_folder(tmp_path / "rnn", micro({"model.encoder.kind": "rnn", "model.decoder.kind": "rnn"}), (30,))
    one, two = load(distill_config(tmp_path / "deep", tmp_path / "rnn"))
    assert (one.folder, one.step, two.step) == (str(tmp_path / "deep"), 10, 30)
    for teacher, params in ((one, deep[10]), (two, recurrent[30])):
        jax.tree.map(np.testing.assert_array_equal, teacher.params, params)
        assert all(leaf.is_fully_replicated and len(leaf.devices()) == 2 for leaf in jax.tree.leaves(teacher.params))


def test_a_resumed_run_uses_the_teacher_checkpoint_of_its_start(tmp_path):
    params = make_folder(tmp_path / "t", micro(), (10, 20))
    config = distill_config(tmp_path / "t")
    (teacher,) = load(config, {str(tmp_path / "t"): 20})
    assert teacher.step == 20
    jax.tree.map(np.testing.assert_array_equal, teacher.params, params[20])
    message = (
        rf"teachers={tmp_path}/t: this run began with its step 15, which has been deleted since; restore .*/15 from"
    )
    with pytest.raises(InputError, match=message):
        load(config, {str(tmp_path / "t"): 15})


@pytest.mark.parametrize("difference", OTHERS)
@pytest.mark.parametrize("side", ["source", "target"])
def test_another_vocabulary_is_an_error_with_the_difference(side, difference, tmp_path):
    pair = (OTHERS[difference], LETTERS) if side == "source" else (LETTERS, OTHERS[difference])
    make_folder(tmp_path / "t", micro(), (), pair)
    message = rf"teachers={tmp_path}/t: has another {side} vocabulary than this run: {difference}; train both"
    with pytest.raises(InputError, match=message):
        load(distill_config(tmp_path / "t"))


def test_a_directory_that_is_no_work_directory_is_an_error(tmp_path):
    with pytest.raises(
        InputError, match=rf"^config\.train\.distill\.teachers: {tmp_path}/x/config\.json: there is no such file"
    ):
        load(distill_config(tmp_path / "x"))


def test_learned_positions_must_cover_the_rows(tmp_path):
    short = {"model.encoder.positions.kind": "learned", "data.max_source_length": 12, "data.max_target_length": 11}
    make_folder(tmp_path / "t", micro(short))
    with pytest.raises(InputError, match=r"learned positions for 12 tokens, this run has rows of up to 32; lower"):
        load(distill_config(tmp_path / "t"))
    assert load(distill_config(tmp_path / "t", **{"data.max_source_length": 12, "data.max_target_length": 12}))


def test_an_unusable_teacher_leaves_no_work_directory(tmp_path):
    make_folder(tmp_path / "t", micro(), (), (WordVocabulary(["a"]), LETTERS))
    with pytest.raises(InputError, match="has another source vocabulary"):
        loop.train(distill_config(tmp_path / "t"), tmp_path / "student")
    assert not (tmp_path / "student").exists()
