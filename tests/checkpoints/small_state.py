"""Checkpoints of a small state without a model."""

import jax
import jax.numpy as jnp
import numpy as np

from flaxformer_lite.checkpoints.checkpoint_manager import Checkpoint, Checkpoints
from flaxformer_lite.checkpoints.listing import Evaluation
from flaxformer_lite.checkpoints.restore_params import restore_params
from flaxformer_lite.train_step.state import TrainState
from tests.micro_config import micro

TRAIN = micro({"train.keep_latest": 3}).train


def make_state(step: int) -> TrainState:
    """Parameters and moments that differ from step to step; one array has a dtype that NumPy lacks."""
    random = np.random.default_rng(step)
    params = {"a": random.normal(size=(16, 24)), "b": {"c": random.normal(size=8)}}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    moments = ({"mean": params["a"].astype(jnp.bfloat16)}, jnp.asarray(step, jnp.int32))
    return TrainState(jnp.asarray(step, jnp.int32), params, moments, jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32))


def make_saved(step: int) -> Checkpoint:
    history = [Evaluation(s, 1.0 / s) for s in range(10, step + 1, 10)]
    return Checkpoint(make_state(step), {"next_index": step}, history, [0.1 * step, 2.0, 3.0])


def shapes(state, sharding=None):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding or x.sharding), state)


def equal(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), left, right)


def write(folder, steps):
    checkpoints = Checkpoints(folder, TRAIN, "loss")
    for step in steps:
        checkpoints.save(make_saved(step))
    checkpoints.close()


def restore(folder):
    """Restores as a restarted run does."""
    checkpoints = Checkpoints(folder, TRAIN, "loss")
    try:
        return checkpoints.restore(shapes(make_state(0)))
    finally:
        checkpoints.close()


def decode(folder, which="latest"):
    return restore_params(folder, which, "loss", shapes(make_state(0).params))


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def largest(folder):
    return max(files_of(folder), key=lambda path: path.stat().st_size)
