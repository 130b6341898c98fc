"""Checkpoints of stacked layers are restored with separate layers and the reverse."""

import jax
import numpy as np
import pytest

from flaxformer_lite.checkpoints.checkpoint_manager import Checkpoint, Checkpoints
from flaxformer_lite.checkpoints.layer_layout import is_stacked, to_separate_layers
from flaxformer_lite.checkpoints.restore_params import restore_params
from flaxformer_lite.config.dataclasses import MeshConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.training.setup import make_training
from tests.micro_config import micro

LAYERS = {"model.encoder.num_layers": 3, "model.decoder.num_layers": 2, "train.ema_decay": 0.9}


def setup(scan, optimizer="adam", mesh=(1, 1, 1)):
    """The layout of a run of 3 + 2 layers on a mesh, and the function that makes its first state."""
    config = micro({"model.scan_layers": scan, "optim.optimizer": optimizer, **LAYERS})
    layout = MeshLayout(MeshConfig(*mesh), config.logical_axis_rules, jax.devices()[: int(np.prod(mesh))])
    return layout, make_training(config, make_model(config, 12, 14), []).init_state


def save(folder, state):
    checkpoints = Checkpoints(folder, micro().train, "loss")
    checkpoints.save(Checkpoint(state, {}, [], []))
    checkpoints.close()


def restore(folder, shapes):
    checkpoints = Checkpoints(folder, micro().train, "loss")
    try:
        saved = checkpoints.restore(shapes)
        assert saved
        return saved.state
    finally:
        checkpoints.close()


@pytest.mark.parametrize(
    "scan", [pytest.param(True, marks=pytest.mark.slow), False], ids=["from scanned", "to scanned"]
)
def test_a_checkpoint_is_restored_in_the_other_layer_layout_on_another_mesh(scan, tmp_path):
    layout, make = setup(scan, mesh=(1, 2, 1))
    state, shapes = layout.init(make), layout.shapes(make)
    layout, make = setup(not scan, mesh=(2, 1, 2))
    others = layout.shapes(make)
    save(tmp_path / "one", state)
    changed = restore(tmp_path / "one", others)
    assert is_stacked(changed.params) != scan
    assert all(jax.tree.leaves(jax.tree.map(lambda array, shape: array.sharding == shape.sharding, changed, others)))
    save(tmp_path / "other", changed)
    jax.tree.map(np.testing.assert_array_equal, restore(tmp_path / "other", shapes), state)


def test_decoding_restores_separate_layers(tmp_path):
    layout, make = setup(True)
    state = layout.init(make)
    save(tmp_path / "run", state)
    layout, make = setup(False)
    _, params = restore_params(tmp_path / "run", "latest", "loss", layout.shapes(make).params)
    jax.tree.map(np.testing.assert_array_equal, params, to_separate_layers(state.params))
    assert to_separate_layers(params) is params


def test_optimizer_state_that_cannot_be_converted_is_an_error(tmp_path):
    """Adafactor keeps an array of one element in place of a factored moment, also for stacked layers."""
    layout, make = setup(True, "adafactor")
    state, shapes = layout.init(make), layout.shapes(make)
    save(tmp_path / "run", state)
    layout, make = setup(False, "adafactor")
    with pytest.raises(InputError, match=r"config\.model\.scan_layers: the optimizer state of step 0 cannot"):
        restore(tmp_path / "run", layout.shapes(make))
    jax.tree.map(np.testing.assert_array_equal, restore(tmp_path / "run", shapes), state)
