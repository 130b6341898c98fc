"""Dtypes of the training state."""

import jax
import pytest

from flaxformer_lite import load
from flaxformer_lite.checkpoints.checkpoint_manager import Checkpoint, Checkpoints
from flaxformer_lite.config.dataclasses import MeshConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.training import loop
from flaxformer_lite.training.setup import make_training
from tests.micro_config import micro, use_devices


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree) if leaf.ndim}


@pytest.mark.parametrize("optimizer", ["adam", "lion", "muon"])
def test_the_config_sets_the_dtypes(optimizer):
    config = micro(
        {
            "precision.param_dtype": "bfloat16",
            "precision.dtype": "bfloat16",
            "precision.moment_dtype": "bfloat16",
            "optim.optimizer": optimizer,
            "train.ema_decay": 0.9,
            "train.grad_accum_steps": 2,
        }
    )
    model = make_model(config, 12, 14)
    assert model.dtype == "bfloat16"
    state = jax.eval_shape(make_training(config, model, []).init_state)
    assert dtypes(state.params) == {"bfloat16"}
    assert "bfloat16" in dtypes(state.opt_state)
    assert dtypes(state.ema) == {"float32"}
    plain = micro({"optim.optimizer": optimizer})
    state = jax.eval_shape(make_training(plain, make_model(plain, 12, 14), []).init_state)
    assert dtypes(state) == {"float32"}
    master = micro({"precision.dtype": "bfloat16", "optim.optimizer": optimizer})
    state = jax.eval_shape(make_training(master, make_model(master, 12, 14), []).init_state)
    assert dtypes(state) == {"float32"}


def test_bfloat16_parameters_keep_their_dtypes_through_steps_and_checkpoints(tmp_path, monkeypatch, capsys):
    """Second moments and averages, whose changes bfloat16 cannot represent, are float32; one program is compiled."""
    use_devices(monkeypatch, 1)
    small = {
        "precision.param_dtype": "bfloat16",
        "train.ema_decay": 0.99,
        "train.grad_accum_steps": 2,
        "train.max_compiles": 1,
        "eval.metrics": (),
        "eval.best_metric": "loss",
    }
    assert loop.train(micro({**small, "train.steps": 4}), tmp_path).exit_code == 0
    assert "damaged" not in capsys.readouterr().err
    model = load(tmp_path, "latest")
    assert dtypes(model.params) == {"float32"}
    assert len(model.decode(["abc", "cab"])) == 2
    assert loop.train(micro({**small, "train.steps": 4}), tmp_path).exit_code == 0
    assert "resuming from step 4" in capsys.readouterr().err


@pytest.mark.parametrize("scan", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_frozen_stack_in_the_other_layer_layout_is_an_error(scan, tmp_path):
    changes = {"model.encoder.num_layers": 2, "optim.frozen": ("^encoder/",)}
    states = {}
    for form in (scan, not scan):
        config = micro({"model.scan_layers": form, **changes})
        layout = MeshLayout(MeshConfig(1, 1, 1), config.logical_axis_rules, jax.devices()[:1])
        states[form] = layout, make_training(config, make_model(config, 12, 14), []).init_state
    layout, make = states[scan]
    with Checkpoints(tmp_path, config.train, "loss") as checkpoints:
        checkpoints.save(Checkpoint(layout.init(make), {}, [], []))
    layout, make = states[not scan]
    with (
        pytest.raises(InputError, match=r"config\.model\.scan_layers: the optimizer has no moments of layers"),
        Checkpoints(tmp_path, config.train, "loss") as checkpoints,
    ):
        checkpoints.restore(layout.shapes(make))
    assert (tmp_path / "0").exists(), "it was renamed as damaged"
