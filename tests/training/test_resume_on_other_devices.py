"""Runs that resume on other devices, on another mesh, or under pmap instead of jit."""

import jax
import numpy as np
import pytest

from flaxformer_lite.checkpoints.checkpoint_manager import Checkpoints
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.sharding.pmap_layout import PmapLayout
from flaxformer_lite.training import setup
from tests.micro_config import micro, use_devices
from tests.training_runs import UPDATE, Runs

ALL = 8
PLACES = {
    "1 device": (1, {}),
    "data=8": (ALL, {}),
    "fsdp=4, tensor=2": (ALL, {"mesh.data": 1, "mesh.fsdp": 4, "mesh.tensor": 2}),
    "pmap": (ALL, {"parallel.mode": "pmap"}),
}


class Moves(Runs):
    """Runs of a model with sharded parameters; records the batches and the restored states."""

    def __init__(self, folder, monkeypatch):
        super().__init__(folder, monkeypatch)
        monkeypatch.setattr(setup, "make_model", make_model)
        self.batches, self.restored = [], None
        restore = Checkpoints.restore

        def restore_and_remember(checkpoints, like):
            if found := restore(checkpoints, like):
                has_sharding = jax.tree.map(lambda array, shape: array.sharding == shape.sharding, found.state, like)
                assert all(jax.tree.leaves(has_sharding))
                self.restored = jax.device_get(found.state)
            return found

        monkeypatch.setattr(Checkpoints, "restore", restore_and_remember)
        for layout in (MeshLayout, PmapLayout):
            self._remember_batches(layout)

    def _remember_batches(self, layout):
        put = layout.shard_batch

        def put_and_remember(self_, batch):
            self.batches.append(batch)
            return put(self_, batch)

        self._patch.setattr(layout, "shard_batch", put_and_remember)

    def at(self, place, name, stop=0):
        """Starts or resumes a run with a layout, and interrupts it at step ``stop``, if that is not 0."""
        count, changes = PLACES[place]
        config = micro({"model.encoder.dropout": 0.0, "train.log_every": 1, **changes})
        with self._patch.context() as patch:
            use_devices(patch, count)
            if stop:
                self.kill_at(name, UPDATE, stop, config)
            else:
                assert self.start(name, config) == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("data=8", "1 device", marks=pytest.mark.slow),
        ("1 device", "data=8"),
        pytest.param("data=8", "fsdp=4, tensor=2", marks=pytest.mark.slow),
        pytest.param("fsdp=4, tensor=2", "1 device", marks=pytest.mark.slow),
        pytest.param("data=8", "pmap", marks=pytest.mark.slow),
        pytest.param("pmap", "fsdp=4, tensor=2", marks=pytest.mark.slow),
    ],
)
def test_a_run_resumes_on_other_devices(before, after, tmp_path, monkeypatch):
    runs = Moves(tmp_path, monkeypatch)
    runs.at(before, "whole")
    batches, runs.batches = runs.batches, []
    runs.at(before, "moved", stop=8)  # the last checkpoint is of step 6
    saved = runs.saved["moved"][-1]
    del runs.batches[6:]
    runs.at(after, "moved")

    assert int(runs.restored.step) == 6
    jax.tree.map(np.testing.assert_array_equal, runs.restored, saved.state)
    jax.tree.map(np.testing.assert_array_equal, runs.batches, batches)
    (ours, _, end), (theirs, _, whole) = runs.record("moved"), runs.record("whole")
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for moved, stayed in zip(ours, theirs, strict=True):
        assert moved == pytest.approx(stayed, rel=1e-4)
    assert end.data == whole.data
