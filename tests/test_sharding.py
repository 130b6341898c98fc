import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from flaxformer_lite.config import Config, MeshConfig, ParallelConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.losses import cross_entropy
from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from flaxformer_lite.objective import Criterion, OnePass
from flaxformer_lite.schema import from_dict
from flaxformer_lite.sharding import Layout, MeshLayout, PmapLayout, make_layout
from flaxformer_lite.steps import TrainStep
from flaxformer_lite.train_state import TrainState, init_state, with_average
from flaxformer_lite.types import Batch
from tests.models.contract import sentences

_SOURCE_SIZE, _TARGET_SIZE = 16, 24
_STEPS = 5


def make_batch(seed: int = 0) -> Batch:
    """Eight rows of very different lengths; the last device's is nothing but padding."""
    source = sentences((4, 3, 7, 2, 1, 5, 6, 0), 7, _SOURCE_SIZE)
    target = sentences((5, 1, 2, 1, 4, 2, 3, 0), 5, _TARGET_SIZE)
    target = target._replace(ids=np.roll(target.ids, seed, axis=0))
    return Batch(source, target, np.roll(target.ids, -1, axis=1), target.segments.astype(np.float32))


def _config(**values: object) -> Config:
    return dataclasses.replace(from_dict(base.get_config().to_dict()), **values)


def _step(dropout: float = 0.5, width: int = 8, halves: str = "transformer") -> TrainStep:
    sizes = {"width": width, "num_heads": 2, "mlp_width": 16, "num_layers": 1, "num_decoder_layers": 1}
    values = _config().model
    rnn = dataclasses.replace(values.rnn, design="luong")  # no maxout, in which rounding can choose another branch
    model = dataclasses.replace(values, **sizes, dropout=dropout, encoder=halves, decoder=halves, rnn=rnn)
    # A large ε, or Adam makes whole steps of what is only rounding: the gradients of the keys' biases. Recurrence,
    # where rounding grows from place to place, does without Adam (and without dropout, below).
    descent = optax.adam(0.05, eps=1e-3) if halves == "transformer" else optax.sgd(0.1)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), descent)
    objective = OnePass(EncoderDecoder(model, _SOURCE_SIZE, _TARGET_SIZE, 9), Criterion(_loss))
    return TrainStep(objective, optimizer, ema_decay=0.5)


def _loss(logits: Any, labels: Any, weights: Any) -> Any:
    return cross_entropy(logits, labels, weights, 0.1)


def _mesh(data: int, fsdp: int, tensor: int) -> MeshLayout:
    return MeshLayout(MeshConfig(data, fsdp, tensor), jax.devices()[: data * fsdp * tensor])


class _Run(NamedTuple):
    start: TrainState
    end: TrainState
    sums: np.ndarray  # of each step


def _run(layout: Layout, dropout: float = 0.5, halves: str = "transformer") -> _Run:
    step = _step(dropout, halves=halves)
    state = layout.init(lambda: _make_state(dropout, halves))
    start = jax.device_get(layout.whole(state))
    update = layout.compile(step, jax.random.key(3))
    each = []
    for i in range(_STEPS):
        state, sums, _ = update((), state, layout.put(make_batch(i % 3)))
        each.append(jax.device_get(sums))
    return _Run(start, layout.whole(state), np.array(each))


@pytest.fixture(scope="module")
def one_device() -> _Run:
    return _run(_mesh(1, 1, 1))


def _assert_same_run(run: _Run, expected: _Run) -> None:
    jax.tree.map(np.testing.assert_array_equal, run.start, expected.start)
    np.testing.assert_allclose(run.sums, expected.sums, rtol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5), run.end, expected.end)


# What each device has of the weights of the queries [d, h, k], of the table [v, d] and of a norm's gain [d].
@pytest.mark.parametrize(
    ("sizes", "held"),
    [
        ((8, 1, 1), ((8, 2, 4), (24, 8), (8,))),
        pytest.param((1, 8, 1), ((1, 2, 4), (24, 1), (1,)), marks=pytest.mark.slow),  # fsdp is in the last mesh too
        ((2, 2, 2), ((4, 1, 4), (12, 4), (4,))),
    ],
)
def test_every_mesh_makes_the_run_of_one_device_with_its_share_of_parameters_and_moments(sizes, held, one_device):
    layout = _mesh(*sizes)
    run = _run(layout)
    _assert_same_run(run, one_device)
    _assert_lies_as(run.end, layout.shapes(_make_state))
    (adam,) = [part for part in jax.tree.leaves(run.end.opt_state, is_leaf=_is_adam) if _is_adam(part)]
    for tree in (run.end.params, run.end.ema, adam.mu, adam.nu):
        layer = tree["decoder"]["layers_0"]
        query, table = layer["self_attention"]["query"], tree["target_embedding"]["table"]
        gain = layer["feed_forward_residual"]["norm"]["scale"]
        for array, shape in zip((query, table, gain), held, strict=True):
            assert {shard.data.shape for shard in array.addressable_shards} == {shape}


def test_a_recurrent_model_too():
    run = _run(_mesh(2, 2, 2), dropout=0.0, halves="rnn")
    _assert_same_run(run, _run(_mesh(1, 1, 1), dropout=0.0, halves="rnn"))
    _assert_lies_as(run.end, _mesh(2, 2, 2).shapes(lambda: _make_state(halves="rnn")))


def _is_adam(part: Any) -> bool:
    return isinstance(part, optax.ScaleByAdamState)


def _make_state(dropout: float = 0.5, halves: str = "transformer") -> TrainState:
    step = _step(dropout, halves=halves)
    return with_average(init_state(step.objective.model, step.optimizer, 7))


def _assert_lies_as(state: Any, shapes: Any) -> None:
    def check(array: jax.Array, shape: jax.ShapeDtypeStruct) -> None:
        assert (array.shape, array.dtype) == (shape.shape, shape.dtype)
        assert array.sharding.is_equivalent_to(shape.sharding, array.ndim), (array.sharding, shape.sharding)

    jax.tree.map(check, state, shapes)


def test_the_run_learns_and_draws_new_masks_each_step(one_device):
    losses = one_device.sums[:, 0] / one_device.sums[:, 2]
    assert losses[3] < losses[0] - 0.1
    assert (one_device.sums[:, 2] == 18).all()


def test_pmap_makes_the_same_run():
    layout = PmapLayout()
    run = _run(layout, dropout=0.0)
    _assert_same_run(run, _run(_mesh(1, 1, 1), dropout=0.0))
    _assert_lies_as(run.end, layout.shapes(_make_state))


class _Count(NamedTuple):
    """A state that costs nothing to compile for."""

    step: Any
    total: Any


def _count(fixed: Any, state: _Count, batch: Any, key: jax.Array, reduce: Any) -> tuple[_Count, Any]:
    total = reduce((fixed * batch).sum())
    return _Count(state.step + 1, state.total + total), (total, jax.random.bits(key))


def _counted(layout: Layout, rows: np.ndarray, steps: int) -> tuple[_Count, list]:
    update, fixed = layout.compile(_count, jax.random.key(0)), layout.spread(jnp.float32(3))
    state, seen = layout.init(lambda: _Count(jnp.int32(0), jnp.float32(0))), []
    for _ in range(steps):
        state, results = update(fixed, state, layout.put(rows))
        seen.append(jax.device_get(results))
    return state, seen


def test_keys_are_functions_of_the_step_and_sums_are_those_of_all_devices():
    rows = np.arange(16, dtype=np.float32).reshape(8, 2)
    runs = [_counted(layout, rows, 3) for layout in (_mesh(1, 1, 1), _mesh(4, 2, 1), PmapLayout())]
    for _, seen in runs:
        assert [total for total, _ in seen] == [3 * 120] * 3
        assert len({int(bits) for _, bits in seen}) == 3
    assert runs[0][1] == runs[1][1], "the same masks on any mesh"
    again = _counted(_mesh(1, 1, 1), rows, 3)
    assert again[1] == runs[0][1]


def test_pmap_state_is_whole_again_after_it_was_spread():
    layout = PmapLayout()
    state = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "step": np.int32(4)}
    spread = layout.spread(jax.tree.map(jnp.asarray, state))
    assert jax.tree.map(jnp.shape, spread) == {"a": (8, 2, 3), "step": (8,)}
    whole = layout.whole(spread)
    jax.tree.map(np.testing.assert_array_equal, whole, state)
    assert all(len(x.addressable_shards) == 8 and x.is_fully_replicated for x in jax.tree.leaves(whole))
    jax.tree.map(np.testing.assert_array_equal, layout.spread(whole), spread)


def test_rows_lie_on_their_devices_in_order():
    rows = np.arange(24).reshape(8, 3)
    layout = _mesh(2, 2, 2)
    assert layout.shards == 4
    held = {shard.device.id: shard.data for shard in layout.put(rows).addressable_shards}
    for place, device in enumerate(layout.mesh.devices.reshape(4, 2)):
        for member in device:  # both of a tensor group have the same rows
            np.testing.assert_array_equal(held[member.id], rows[2 * place : 2 * place + 2])


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((3, 1, 1), "config.mesh.data=3, config.mesh.fsdp=1, config.mesh.tensor=1 make a mesh of 3 devices"),
        ((-1, 3, 1), "make a mesh of 6 devices, but there are 8"),
        ((-1, 16, 1), "config.mesh.fsdp=16"),
        ((2, 2, 4), "make a mesh of 16 devices, but there are 8"),
    ],
)
def test_a_mesh_that_does_not_fit_the_devices_is_an_error(sizes, said):
    with pytest.raises(InputError, match=said):
        MeshLayout(MeshConfig(*sizes))


@pytest.mark.parametrize(
    ("sizes", "expected"), [((-1, 2, 1), (4, 2, 1)), ((2, -1, 2), (2, 2, 2)), ((8, 1, -1), (8, 1, 1))]
)
def test_one_size_of_a_mesh_may_be_left_open(sizes, expected):
    assert tuple(MeshLayout(MeshConfig(*sizes)).mesh.shape.values()) == expected


def test_an_axis_that_cannot_be_divided_is_named():
    step = _step(width=12)
    with pytest.raises(InputError, match=r"params.*: its axis 'embed' of size 12 .* config\.mesh\.fsdp=8"):
        _mesh(1, 8, 1).init(lambda: init_state(step.objective.model, step.optimizer, 0))


def test_two_axes_over_the_same_devices_are_an_error():
    square = nn.with_logical_partitioning(nn.initializers.zeros, ("embed", "embed"))
    with pytest.raises(InputError, match=r"square.*\('embed', 'embed'\).*same mesh axis"):
        _mesh(4, 2, 1).init(lambda: {"square": square(jax.random.key(0), (4, 4))})


def test_the_config_names_the_layout():
    config = _config(mesh=MeshConfig(-1, 2, 1))
    layout = make_layout(config)
    assert isinstance(layout, MeshLayout)
    assert (layout.shards, layout.mesh.size) == (8, 8)
    assert isinstance(make_layout(_config(parallel=ParallelConfig("pmap"))), PmapLayout)


def test_a_batch_that_cannot_be_shared_out_is_an_error():
    config = _config(train=dataclasses.replace(_config().train, batch_size=12))
    with pytest.raises(InputError, match=r"config\.train\.batch_size=12 must be a multiple of the 8 shares"):
        make_layout(config)
