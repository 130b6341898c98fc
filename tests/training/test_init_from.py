"""Initial parameters from another run of the same model."""

import dataclasses

import jax
import numpy as np
import pytest

from flaxformer_lite.checkpoints.storage import silence_orbax
from flaxformer_lite.data.vocabularies.byte import ByteVocabulary
from flaxformer_lite.errors import InputError
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.sharding.layout import make_layout
from flaxformer_lite.training import loop
from flaxformer_lite.training.init_from import check_init_from, load_init_params
from flaxformer_lite.training.setup import make_training
from tests.micro_config import micro, use_devices
from tests.work_dirs import LETTERS, make_folder

_LETTERS = (LETTERS, LETTERS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("first")
    return path, make_folder(path, micro())[10]


def _first_state(config):
    model = make_model(config, LETTERS.size, LETTERS.size)
    layout = make_layout(config)
    return layout.init(make_training(config, model, []).init_state)


def test_parameters_and_their_moving_average_are_loaded(folder):
    path, params = folder
    config = micro({"train.init_from": str(path), "train.ema_decay": 0.5, "model.encoder.dropout": 0.3})
    check_init_from(config, _LETTERS)
    random = _first_state(config)
    with silence_orbax():
        state = load_init_params(config, random)
    for taken, average, there in zip(*map(jax.tree.leaves, (state.params, state.ema, params)), strict=True):
        np.testing.assert_array_equal(taken, there)
        np.testing.assert_array_equal(average, there)
    assert int(state.step) == 0
    assert jax.tree.map(lambda x: x.sharding, state.params) == jax.tree.map(lambda x: x.sharding, random.params)


def test_layers_may_be_scanned_and_the_dtype_may_differ(folder, monkeypatch):
    use_devices(monkeypatch, 1)
    path, params = folder
    config = micro({"train.init_from": str(path), "model.scan_layers": True, "precision.param_dtype": "bfloat16"})
    check_init_from(config, _LETTERS)
    with silence_orbax():
        random = _first_state(config)
        state = load_init_params(config, random)
    taken = state.params["target_embedding"]["table"]
    assert taken.dtype == "bfloat16"
    np.testing.assert_array_equal(taken, params["target_embedding"]["table"].astype("bfloat16"))
    assert jax.tree.structure(state.params) == jax.tree.structure(random.params)


def test_another_model_or_vocabulary_is_an_error(folder):
    path, _ = folder
    with pytest.raises(
        InputError, match=r"holds another model \(there → here\):\n  model\.decoder\.norm\.placement: 'pre' → 'post'\n"
    ):
        check_init_from(micro({"train.init_from": str(path), "model.encoder.norm.placement": "post"}), _LETTERS)
    with pytest.raises(InputError, match="has another target vocabulary than this run: character there, byte here"):
        check_init_from(micro({"train.init_from": str(path)}), (LETTERS, ByteVocabulary()))
    with pytest.raises(InputError, match=r"config\.train\.init_from: .*nowhere/config\.json: there is no such file"):
        check_init_from(micro({"train.init_from": str(path / "nowhere")}), _LETTERS)


def test_training_starts_from_the_loaded_parameters(folder, tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    path, params = folder
    saved = {"kind": "saved", "model": str(path / "target.vocabulary.json")}
    changes = {f"data.{side}_vocabulary.{key}": value for side in ("source", "target") for key, value in saved.items()}
    still = {"optim.frozen": ("encoder|embedding",), "train.steps": 2, "train.eval_every": 2, "optim.warmup_steps": 1}
    config = micro(changes | still | {"train.init_from": str(path), "eval.metrics": (), "eval.best_metric": "loss"})
    assert loop.train(config, tmp_path / "second").exit_code == 0
    again = dataclasses.replace(config, train=dataclasses.replace(config.train, init_from=str(tmp_path / "second")))
    with silence_orbax():
        state = load_init_params(again, _first_state(again))
    np.testing.assert_array_equal(state.params["target_embedding"]["table"], params["target_embedding"]["table"])
    moved = state.params["decoder"]["layers_0"]["feed_forward"]["up"]["kernel"]
    before = params["decoder"]["layers_0"]["feed_forward"]["up"]["kernel"]
    assert 0 < np.abs(moved - before).max() < 0.1, "it learned, but not from random parameters"
