import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxformer_lite.plan.collectives import Collective, read_collectives
from flaxformer_lite.plan.hlo import read_program

_SIZES = {"x": 2, "y": 2, "z": 2}
_MESH = Mesh(np.array(jax.devices()).reshape(2, 2, 2), tuple(_SIZES))


def _found(function, spec, shape=(8, 16), node=8):
    """The collectives of a function of one sharded array."""
    mapped = jax.shard_map(function, mesh=_MESH, in_specs=spec, out_specs=spec, check_vma=False)
    array = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(_MESH, spec))
    return read_collectives(read_program(jax.jit(mapped).lower(array).compile().as_text()), _SIZES, node)


@pytest.mark.parametrize("axes", [("x",), ("y",), ("z",), ("x", "y"), ("x", "z"), ("x", "y", "z")])
def test_all_reduce_has_axes_and_bytes(axes):
    (found,) = _found(lambda x: jax.lax.psum(x, axes), PartitionSpec("x"))
    assert found[:3] == ("all-reduce", axes, 2 ** len(axes))
    assert (found.bytes, found.executions) == (4 * 16 * 4, 1)
    assert found.sent == 2 * found.bytes * (found.group - 1) / found.group


def test_all_gather_has_the_bytes_of_the_whole_array():
    (found,) = _found(lambda x: jax.lax.all_gather(x, "y", tiled=True)[: x.shape[0]] * 2, PartitionSpec("y"))
    assert found[:3] == ("all-gather", ("y",), 2)
    assert found.bytes == 8 * 16 * 4
    assert found.sent == found.bytes / 2


def test_collective_permute():
    (found,) = _found(lambda x: jax.lax.ppermute(x, "z", [(0, 1), (1, 0)]), PartitionSpec("z"))
    assert found[:2] == ("collective-permute", ("z",))
    assert found.sent == 4 * 16 * 4


def _sum_and_slice(x):
    return jax.lax.dynamic_slice_in_dim(jax.lax.psum(x, "x"), 2 * jax.lax.axis_index("x"), 2) * jnp.ones((2, 1))


@pytest.mark.parametrize("function", [_sum_and_slice, lambda x: jax.lax.psum_scatter(x, "x", tiled=True)])
def test_a_sliced_all_reduce_is_a_reduce_scatter(function):
    (found,) = _found(function, PartitionSpec("x"))
    assert found[:3] == ("reduce-scatter", ("x",), 2)
    assert found.sent == found.bytes / 2 == 2 * 16 * 4


def test_an_all_reduce_that_is_also_used_whole_stays_one():
    (found,) = _found(lambda x: _sum_and_slice(x).sum() + jax.lax.psum(x, "x"), PartitionSpec("x"))
    assert found.kind == "all-reduce"


def test_collectives_in_a_loop_count_each_iteration():
    def loop(x):
        return jax.lax.scan(lambda x, _: (jax.lax.psum(x, "y") / 2, None), x, None, length=5)[0]

    (found,) = _found(loop, PartitionSpec("x"))
    assert found.executions == 5
    assert found.sent == 5 * 4 * 16 * 4


@pytest.mark.parametrize(("axis", "per_node"), [("x", 1), ("y", 2), ("z", 2)])
def test_devices_of_a_group_per_node(axis, per_node):
    (found,) = _found(lambda x: jax.lax.psum(x, axis), PartitionSpec(), node=4)
    assert found.per_node == per_node


def test_groups_that_are_not_mesh_axes_have_none():
    def pairs(x):
        return jax.lax.psum(x, ("x", "y", "z"), axis_index_groups=None)

    text = jax.jit(jax.shard_map(pairs, mesh=_MESH, in_specs=PartitionSpec(), out_specs=PartitionSpec()))
    program = read_program(text.lower(jnp.ones((3, 5))).compile().as_text())
    (found,) = read_collectives(program, {"x": 8}, 8)
    assert found.axes == ("x",)
    odd = {"x": 2, "y": 4}  # the groups of z in the mesh above are halves of y
    (found,) = read_collectives(_z_sum(), odd, 8)
    assert found.axes == ()


def _z_sum():
    mapped = jax.shard_map(
        lambda x: jax.lax.psum(x, "z"), mesh=_MESH, in_specs=PartitionSpec(), out_specs=PartitionSpec()
    )
    return read_program(jax.jit(mapped).lower(jnp.ones((3, 5))).compile().as_text())


def test_sent_bytes_by_hand():
    gather = Collective("all-gather", ("x",), 4, 4, 1000, 3, "")
    assert gather.sent == 3 * 750
    assert gather._replace(kind="all-reduce").sent == 3 * 1500
    assert gather._replace(kind="collective-permute").sent == 3000
