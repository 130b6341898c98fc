"""Runs on meshes, under pmap or with gradient accumulation equal the run on one device."""

import dataclasses
from functools import cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from flaxformer_lite.config import defaults
from flaxformer_lite.config.dataclasses import MeshConfig
from flaxformer_lite.config.model_dataclasses import ModelConfig
from flaxformer_lite.config.parsing import from_dict
from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from flaxformer_lite.models.transformer.scan import stack_layers, unstack_layers
from flaxformer_lite.sharding.layout import Layout
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.sharding.pmap_layout import PmapLayout
from flaxformer_lite.train_step.losses import cross_entropy
from flaxformer_lite.train_step.objective import Objective
from flaxformer_lite.train_step.state import TrainState, init_state, with_ema
from flaxformer_lite.train_step.step import TrainStep
from flaxformer_lite.types import Batch, Tokens
from tests.models.contract import sentences

CONFIG = from_dict(defaults.get_config().to_dict())
SOURCE_SIZE, TARGET_SIZE = 16, 24
STEPS = 20
ONE_DEVICE = (1, 1, 1)


class Setup(NamedTuple):
    """A device layout.

    Attributes:
      mesh: sizes of (data, fsdp, tensor); (): pmap.
      changes: of the model's config.
      accumulate: parts of a batch.
    """

    mesh: tuple[int, ...] = ONE_DEVICE
    changes: tuple[tuple[str, Any], ...] = ()
    accumulate: int = 1


# These have the dropout masks of one device; those below have others and are compared without dropout.
SAME_MASKS = {
    "data=8": Setup((8, 1, 1)),
    "fsdp=8": Setup((1, 8, 1)),
    "tensor=4, data=2": Setup((2, 1, 4)),
    "data=2, fsdp=2, tensor=2": Setup((2, 2, 2)),
    "remat": Setup((1, 2, 2), (("remat", "full"),)),
}
OTHER_MASKS = {
    "pmap": Setup(()),
    "accumulate=4": Setup((1, 1, 1), (), 4),
    "accumulate=2 on data=2, fsdp=2": Setup((2, 2, 1), (), 2),
    "scan": Setup((1, 1, 1), (("scan_layers", True),)),
    "scan and remat on fsdp=2, tensor=2": Setup((1, 2, 2), (("scan_layers", True), ("remat", "dots"))),
}
SIZES = {"encoder.width": 8, "encoder.num_heads": 4, "encoder.mlp_dim": 16, "encoder.num_layers": 2}
KINDS = {
    "transformer": {},
    "rnn": dict.fromkeys(("encoder.kind", "decoder.kind"), "rnn")
    | {"decoder.rnn.design": "luong"},  # no maxout, where rounding can choose a branch
    "published": {
        "encoder.positions.kind": "relative_bias",
        "encoder.positions.per_layer": True,
        "encoder.positions.num_buckets": 8,
        "encoder.positions.max_distance": 6,
        "encoder.num_heads": 8,
        "encoder.num_kv_heads": 4,
        "encoder.head_dim": 2,
        "encoder.attention.sliding_window": 2,
        "encoder.attention.layer_pattern": ("local", "global"),
        "encoder.norm.placement": "sandwich",
        "encoder.norm.kind": "rms",
        "encoder.feed_forward.gated": True,
        "encoder.feed_forward.activation": "silu",
        "decoder.width": 16,
        "vocab_pad_multiple": 32,
        "lm_head.bias": "always",
    },
}
QUICK = {
    "transformer": ("data=2, fsdp=2, tensor=2", "pmap", "scan and remat on fsdp=2, tensor=2"),
    "rnn": ("accumulate=2 on data=2, fsdp=2",),
    "published": (),
}


class Run(NamedTuple):
    """Losses and parameters, with separate layers."""

    sums: np.ndarray  # of each step
    params: Any
    average: Any


def batch(seed: int = 0) -> Batch:
    """Eight rows of very different lengths; the last one is padding only."""
    source = sentences((4, 3, 7, 2, 1, 5, 6, 0), 7, SOURCE_SIZE)
    target = sentences((5, 1, 2, 1, 4, 2, 3, 0), 5, TARGET_SIZE)
    target = target._replace(ids=np.roll(target.ids, seed, axis=0))
    return Batch(source, target, np.roll(target.ids, -1, axis=1), target.segments.astype(np.float32))


def model_of(kind: str, dropout: float) -> ModelConfig:
    values = defaults.get_config()
    values.model.update_from_flattened_dict({**SIZES, **KINDS[kind], "encoder.dropout": dropout})
    return from_dict(values.to_dict()).model


def layout_of(setup: Setup) -> Layout:
    if not setup.mesh:
        return PmapLayout()
    return MeshLayout(MeshConfig(*setup.mesh), CONFIG.logical_axis_rules, jax.devices()[: int(np.prod(setup.mesh))])


def run(setup: Setup, kind: str, dropout: float) -> Run:
    """Twenty updates from the parameters of seed 7, initialized with separate layers."""
    config = dataclasses.replace(model_of(kind, dropout), **dict(setup.changes))
    model = EncoderDecoder(config, SOURCE_SIZE, TARGET_SIZE, 9)
    optimizer = optimizer_of(kind)
    step = TrainStep(Objective(model, smoothed), optimizer, 0.5, setup.accumulate)
    layout = layout_of(setup)
    shapes = layout.shapes(lambda: state_of(model, optimizer))
    state = first_state(kind)
    state = stack_layers(state) if model.config.scan_layers else state
    state = layout.to_layout(jax.device_put(state, jax.tree.map(lambda x: x.sharding, shapes)))
    update, each = layout.compile(step, jax.random.key(3), shapes), []
    for i in range(STEPS):
        state, (sums, _) = update((), state, layout.shard_batch(batch(i % 3)))
        each.append(jax.device_get(sums))
    whole = layout.to_global(state)
    assert_layout(whole, shapes)
    return Run(np.array(each), *(unstack_layers(jax.device_get(tree)) for tree in (whole.params, whole.ema)))


def optimizer_of(kind: str) -> optax.GradientTransformation:
    # With a small ε Adam makes whole steps of the gradients of key biases, which are only rounding errors. Recurrent
    # models, whose rounding errors grow with the position, use SGD.
    descent = optax.adam(0.02, eps=1e-3) if kind != "rnn" else optax.sgd(0.1)
    return optax.chain(optax.clip_by_global_norm(1.0), descent)


@cache
def first_state(kind: str) -> TrainState:
    """The initial state with separate layers, on the host."""
    model = EncoderDecoder(model_of(kind, 0.0), SOURCE_SIZE, TARGET_SIZE, 9)
    return jax.device_get(jax.jit(lambda: nn.meta.unbox(state_of(model, optimizer_of(kind))))())


def state_of(model: EncoderDecoder, optimizer: optax.GradientTransformation) -> TrainState:
    return with_ema(init_state(model, optimizer, 7))


def smoothed(logits: Any, labels: Any, weights: Any) -> Any:
    return cross_entropy(logits, labels, weights, 0.1)


def assert_layout(state: Any, shapes: Any) -> None:
    def check(array: jax.Array, shape: jax.ShapeDtypeStruct) -> None:
        assert (array.shape, array.dtype) == (shape.shape, shape.dtype)
        assert array.sharding.is_equivalent_to(shape.sharding, array.ndim), (array.sharding, shape.sharding)

    jax.tree.map(check, state, shapes)


@cache
def alone(kind: str, dropout: float) -> Run:
    return run(Setup(), kind, dropout)


def cases(setups: dict[str, Setup]) -> list[Any]:
    """Each layout with every kind of model; a recurrent one has no layers to scan."""
    return [
        pytest.param(setup, kind, id=f"{kind}, {name}", marks=() if name in QUICK[kind] else pytest.mark.slow)
        for name, setup in setups.items()
        for kind in KINDS
        if kind != "rnn" or "scan" not in name
    ]


def assert_same(found: Run, expected: Run) -> None:
    np.testing.assert_allclose(found.sums[0], expected.sums[0], rtol=1e-5)
    np.testing.assert_allclose(found.sums, expected.sums, rtol=1e-4)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), found[1:], expected[1:])


@pytest.mark.parametrize(("setup", "kind"), cases(SAME_MASKS))
def test_every_mesh_equals_one_device(setup, kind):
    dropout = 0.5 if kind != "rnn" else 0.0
    assert_same(run(setup, kind, dropout), alone(kind, dropout))


@pytest.mark.parametrize(("setup", "kind"), cases(OTHER_MASKS))
def test_scanned_accumulated_and_rematerialized_runs_equal_the_plain_one(setup, kind):
    assert_same(run(setup, kind, 0.0), alone(kind, 0.0))


def test_the_loss_decreases():
    losses = alone("transformer", 0.5).sums
    assert (losses[:, 2] == 18).all()
    assert losses[-1, 0] < losses[0, 0] - 5


def test_packed_rows_equal_unpacked_ones():
    """Two examples in each row, with segments 1 and 2; losses and gradients are equal."""
    unpacked = batch(0)
    packed = Batch(*(packed_pairs(tokens) for tokens in unpacked[:2]), *(side_by_side_rows(x) for x in unpacked[2:]))
    model = EncoderDecoder(model_of("transformer", 0.0), SOURCE_SIZE, TARGET_SIZE, 9)
    objective = Objective(model, smoothed)
    params = first_state("transformer").params

    def gradients(rows: Batch) -> Any:
        return jax.jit(jax.grad(lambda params, *given: objective.loss_fn(params, (), *given).objective))(
            params, rows, jax.random.key(0)
        )

    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), gradients(packed), gradients(unpacked)
    )


def packed_pairs(tokens: Tokens) -> Tokens:
    second = np.arange(len(tokens.ids)) % 2
    tokens = tokens._replace(segments=tokens.segments * (1 + second[:, None]))
    return Tokens(*(side_by_side_rows(x) for x in tokens))


def side_by_side_rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x) // 2, -1)
