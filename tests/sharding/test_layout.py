import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxformer_lite.config import defaults
from flaxformer_lite.config.dataclasses import Config, MeshConfig, ParallelConfig
from flaxformer_lite.config.parsing import from_dict
from flaxformer_lite.errors import InputError
from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from flaxformer_lite.sharding.layout import Layout, make_layout
from flaxformer_lite.sharding.mesh_layout import MeshLayout, process_shard_of
from flaxformer_lite.sharding.pmap_layout import PmapLayout
from flaxformer_lite.train_step.state import TrainState, init_state, with_ema
from tests.toy_model import Pairs


def _config(**values: object) -> Config:
    return dataclasses.replace(from_dict(defaults.get_config().to_dict()), **values)


def _make_state(width: int = 8) -> TrainState:
    values = defaults.get_config()
    values.model.encoder.update({"width": width, "num_heads": 2, "mlp_dim": 16, "num_layers": 1})
    model = EncoderDecoder(from_dict(values.to_dict()).model, 16, 24, 9)
    return with_ema(init_state(model, optax.adam(0.1), 7))


def _mesh(data: int, fsdp: int, tensor: int) -> MeshLayout:
    return MeshLayout(
        MeshConfig(data, fsdp, tensor), _config().logical_axis_rules, jax.devices()[: data * fsdp * tensor]
    )


class _Run(NamedTuple):
    start: TrainState
    end: TrainState
    sums: np.ndarray  # of each step


# What each device has of the weights of the queries [d, h, k], of the table [v, d] and of a norm's gain [d].
@pytest.mark.parametrize(
    ("sizes", "held"),
    [
        ((8, 1, 1), ((8, 2, 4), (24, 8), (8,))),
        ((1, 8, 1), ((1, 2, 4), (24, 1), (1,))),
        ((2, 2, 2), ((4, 1, 4), (12, 4), (4,))),
    ],
)
def test_parameters_average_and_moments_are_sharded(sizes, held):
    state = _mesh(*sizes).init(_make_state)
    (adam,) = [part for part in jax.tree.leaves(state.opt_state, is_leaf=_is_adam) if _is_adam(part)]
    for tree in (state.params, state.ema, adam.mu, adam.nu):
        layer = tree["decoder"]["layers_0"]
        query, table = layer["self_attention"]["query"], tree["target_embedding"]["table"]
        gain = layer["feed_forward_residual"]["norm"]["scale"]
        for array, shape in zip((query, table, gain), held, strict=True):
            assert {shard.data.shape for shard in array.addressable_shards} == {shape}


def _is_adam(part: Any) -> bool:
    return isinstance(part, optax.ScaleByAdamState)


class _Count(NamedTuple):
    """A state that compiles immediately."""

    step: Any
    total: Any


def _count(fixed: Any, state: _Count, batch: Any, key: jax.Array, axis_name: str | None) -> tuple[_Count, Any]:
    total = (fixed * batch).sum()
    total = jax.lax.psum(total, axis_name) if axis_name else total
    return _Count(state.step + 1, state.total + total), total


def _counted(layout: Layout, rows: np.ndarray, steps: int) -> tuple[_Count, list]:
    def start() -> _Count:
        return _Count(jnp.int32(0), jnp.float32(0))

    update, fixed = layout.compile(_count, jax.random.key(0), layout.shapes(start)), layout.to_layout(jnp.float32(3))
    state, seen = layout.init(start), []
    for _ in range(steps):
        state, results = update(fixed, state, layout.shard_batch(rows))
        seen.append(jax.device_get(results))
    return state, seen


def test_sums_are_added_over_all_devices():
    rows = np.arange(16, dtype=np.float32).reshape(8, 2)
    runs = [_counted(layout, rows, 3) for layout in (_mesh(1, 1, 1), _mesh(4, 2, 1), PmapLayout())]
    for _, seen in runs:
        assert seen == [3 * 120] * 3


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 2)])
def test_an_initial_loaded_or_updated_state_uses_one_program(sizes):
    """The shardings of the state must be equal in all cases."""
    layout, sgd = _mesh(*sizes), optax.sgd(0.1)

    def make() -> TrainState:
        return init_state(Pairs(), sgd, 0)

    def step(
        fixed: Any, state: TrainState, batch: Any, key: jax.Array, axis_name: str | None
    ) -> tuple[TrainState, Any]:
        return jax.tree.map(lambda x: x + 1, state), batch.sum()

    shapes = layout.shapes(make)
    update: Any = layout.compile(step, jax.random.key(0), shapes)
    made = layout.init(make)
    loaded = jax.device_put(jax.device_get(made), jax.tree.map(lambda x: x.sharding, shapes))
    rows = layout.shard_batch(np.ones((8, 2), np.float32))
    for state in (made, loaded):
        for _ in range(2):
            state, _ = update((), state, rows)
    assert update._cache_size() == 1


def test_pmap_to_layout_and_to_global_are_inverse():
    layout = PmapLayout()
    state = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "step": np.int32(4)}
    spread = layout.to_layout(jax.tree.map(jnp.asarray, state))
    assert jax.tree.map(jnp.shape, spread) == {"a": (8, 2, 3), "step": (8,)}
    whole = layout.to_global(spread)
    jax.tree.map(np.testing.assert_array_equal, whole, state)
    assert all(len(x.addressable_shards) == 8 and x.is_fully_replicated for x in jax.tree.leaves(whole))
    jax.tree.map(np.testing.assert_array_equal, layout.to_layout(whole), spread)


def test_rows_are_sharded_in_order():
    rows = np.arange(24).reshape(8, 3)
    layout = _mesh(2, 2, 2)
    assert layout.num_batch_shards == 4
    held = {shard.device.id: shard.data for shard in layout.shard_batch(rows).addressable_shards}
    for place, device in enumerate(layout.mesh.devices.reshape(4, 2)):
        for member in device:  # both of a tensor group have the same rows
            np.testing.assert_array_equal(held[member.id], rows[2 * place : 2 * place + 2])


def test_a_replicated_batch_is_sharded_like_local_rows():
    rows, layout = np.arange(24, dtype=np.int32).reshape(8, 3), _mesh(2, 2, 2)
    jax.tree.map(
        np.testing.assert_array_equal, layout.shard_replicated_batch({"a": rows}), layout.shard_batch({"a": rows})
    )
    assert layout.shard_replicated_batch(rows).sharding == layout.shard_batch(rows).sharding
    np.testing.assert_array_equal(layout.fetch(layout.shard_replicated_batch(rows)), rows)


@pytest.mark.parametrize(
    ("processes", "parts"),
    [
        ([[0], [0], [1], [1]], 2),
        ([[0, 0], [1, 1], [2, 2]], 3),
        ([[0, 1], [0, 1]], 1),  # both processes have a device for every row
        ([[0, 1], [2, 3]], 2),
        ([[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]], 3),
    ],
)
def test_a_process_reads_the_rows_of_its_devices(processes, parts):
    processes = np.array(processes)
    for own in range(processes.max() + 1):
        index, count = process_shard_of(processes, own)
        assert count == parts
        size = len(processes) // count
        held = np.flatnonzero((processes == own).any(axis=1))
        assert held.tolist() == list(range(index * size, (index + 1) * size))


@pytest.mark.parametrize("processes", [[[0, 0, 1], [1, 2, 2]], [[0], [1], [0], [1]], [[0], [1], [1], [2]]])
def test_processes_with_uneven_rows_are_an_error(processes):
    with pytest.raises(InputError, match=r"config\.mesh\.tensor=\d: \d processes cannot divide the rows"):
        process_shard_of(np.array(processes), 0)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((3, 1, 1), "config.mesh.data=3, config.mesh.fsdp=1, config.mesh.tensor=1: make a mesh of 3 devices"),
        ((-1, 3, 1), "make a mesh of 6 devices, but there are 8"),
        ((-1, 16, 1), "config.mesh.fsdp=16"),
        ((2, 2, 4), "make a mesh of 16 devices, but there are 8"),
    ],
)
def test_a_mesh_that_does_not_fit_the_devices_is_an_error(sizes, message):
    with pytest.raises(InputError, match=message):
        MeshLayout(MeshConfig(*sizes))


@pytest.mark.parametrize(
    ("sizes", "expected"), [((-1, 2, 1), (4, 2, 1)), ((2, -1, 2), (2, 2, 2)), ((8, 1, -1), (8, 1, 1))]
)
def test_one_size_of_a_mesh_is_inferred(sizes, expected):
    assert tuple(MeshLayout(MeshConfig(*sizes)).mesh.shape.values()) == expected


def test_an_indivisible_axis_is_an_error():
    with pytest.raises(InputError, match=r"params.*: its axis 'embed' of size 12 .* config\.mesh\.fsdp=8"):
        _mesh(1, 8, 1).init(lambda: _make_state(width=12))


def test_two_axes_over_one_mesh_axis_are_an_error():
    square = nn.with_logical_partitioning(nn.initializers.zeros, ("embed", "embed"))
    with pytest.raises(
        InputError, match=r"square.*\('embed', 'embed'\): config\.logical_axis_rules divides two of them by"
    ):
        _mesh(4, 2, 1).init(lambda: {"square": square(jax.random.key(0), (4, 4))})


def test_the_config_sets_the_layout():
    config = _config(mesh=MeshConfig(-1, 2, 1))
    layout = make_layout(config)
    assert isinstance(layout, MeshLayout)
    assert (layout.num_batch_shards, layout.mesh.size) == (8, 8)
    assert isinstance(make_layout(_config(parallel=ParallelConfig("pmap"))), PmapLayout)


def test_an_indivisible_batch_is_an_error():
    config = _config(train=dataclasses.replace(_config().train, batch_size=12))
    with pytest.raises(InputError, match=r"config\.train\.batch_size=12: must be a multiple of 8: 8 shards"):
        make_layout(config)
