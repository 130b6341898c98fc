"""Loss and gradients of packed rows equal those of the same examples in rows of their own."""

from functools import partial

import jax
import numpy as np
import pytest

from flaxformer_lite.data.batching import make_batch
from flaxformer_lite.data.dataset import load_training
from flaxformer_lite.data.stateless_random import make_keys
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.train_step.state import init_params
from flaxformer_lite.training.setup import make_training
from tests.micro_config import micro

_PLAIN = {"model.encoder.dropout": 0.0, "data.pack": True, "data.packed_length": 17, "data.reverse.max_length": 9}
_STACKS = {
    "sinusoidal": {},
    "rotary, sliding window": {
        "positions.kind": "rotary",
        "attention.sliding_window": 3,
        "attention.layer_pattern": ("local", "global"),
    },
    "relative_bias": {"positions.kind": "relative_bias"},
    "learned": {"positions.kind": "learned", "positions.max_length": 20},
    "sinusoidal_concat": {"positions.kind": "sinusoidal_concat"},
    "sinusoidal_fairseq": {"positions.kind": "sinusoidal_fairseq", "positions.offset": 1},
    "none": {"positions.kind": "none"},
}
_QUICK = ("sinusoidal", "rotary, sliding window", "relative_bias")


@pytest.mark.parametrize("name", [n if n in _QUICK else pytest.param(n, marks=pytest.mark.slow) for n in _STACKS])
def test_packed_equals_unpacked(name):
    stack = {f"model.{side}.{key}": value for side in ("encoder", "decoder") for key, value in _STACKS[name].items()}
    config = micro({**_PLAIN, **stack, "model.encoder.num_layers": 2})
    data = load_training(config.data, config.seed)
    rows = data.train.buckets.rows[0].take(np.arange(6))
    assert rows.lengths.max() > 1
    pairs = data.train.examples.pairs(rows.ids, make_keys(0, rows.ids))
    packed = make_batch(pairs, rows.lengths, data.train.buckets.shapes[0], data.train.special)
    unpacked = make_batch(pairs, np.ones(len(rows.ids), np.int64), (10, 10), data.train.special)

    model = make_model(config, data.source_vocabulary.size, data.target_vocabulary.size)
    objective = make_training(config, model).step.objective
    params = jax.tree.map(
        lambda leaf: leaf.unbox() if hasattr(leaf, "unbox") else leaf,
        init_params(model, 3),
        is_leaf=lambda leaf: hasattr(leaf, "unbox"),
    )

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def loss(params, batch):
        sums = objective.loss_fn(params, (), batch, jax.random.key(0))
        return sums.objective, sums

    (_, sums), gradients = loss(params, packed)
    (_, expected), expected_gradients = loss(params, unpacked)
    np.testing.assert_allclose(sums, expected, rtol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5), gradients, expected_gradients)
