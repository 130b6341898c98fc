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
    """What devices say in a function of one array, each working on its own part of it."""
    mapped = jax.shard_map(function, mesh=_MESH, in_specs=spec, out_specs=spec, check_vma=False)
    array = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(_MESH, spec))
    return read_collectives(read_program(jax.jit(mapped).lower(array).compile().as_text()), _SIZES, node)


@pytest.mark.parametrize("axes", [("x",), ("y",), ("z",), ("x", "y"), ("x", "z"), ("x", "y", "z")])
def test_a_sum_is_found_with_its_axes_and_bytes(axes):
    (found,) = _found(lambda x: jax.lax.psum(x, axes), PartitionSpec("x"))
    assert found[:3] == ("all-reduce", axes, 2 ** len(axes))
    assert (found.bytes, found.times) == (4 * 16 * 4, 1)
    assert found.moved == 2 * found.bytes * (found.group - 1) / found.group


def test_what_is_gathered_counts_whole():
    (found,) = _found(lambda x: jax.lax.all_gather(x, "y", tiled=True)[: x.shape[0]] * 2, PartitionSpec("y"))
    assert found[:3] == ("all-gather", ("y",), 2)
    assert found.bytes == 8 * 16 * 4
    assert found.moved == found.bytes / 2


def test_what_goes_around_a_ring():
    (found,) = _found(lambda x: jax.lax.ppermute(x, "z", [(0, 1), (1, 0)]), PartitionSpec("z"))
    assert found[:2] == ("collective-permute", ("z",))
    assert found.moved == 4 * 16 * 4


def _sum_and_slice(x):
    return jax.lax.dynamic_slice_in_dim(jax.lax.psum(x, "x"), 2 * jax.lax.axis_index("x"), 2) * jnp.ones((2, 1))


@pytest.mark.parametrize("function", [_sum_and_slice, lambda x: jax.lax.psum_scatter(x, "x", tiled=True)])
def test_a_sum_of_which_each_keeps_its_part_is_a_reduce_scatter(function):
    (found,) = _found(function, PartitionSpec("x"))
    assert found[:3] == ("reduce-scatter", ("x",), 2)
    assert found.moved == found.bytes / 2 == 2 * 16 * 4


def test_a_sum_that_is_kept_whole_too_is_none():
    (found,) = _found(lambda x: _sum_and_slice(x).sum() + jax.lax.psum(x, "x"), PartitionSpec("x"))
    assert found.kind == "all-reduce"


def test_what_a_loop_says_counts_each_time():
    def loop(x):
        return jax.lax.scan(lambda x, _: (jax.lax.psum(x, "y") / 2, None), x, None, length=5)[0]

    (found,) = _found(loop, PartitionSpec("x"))
    assert found.times == 5
    assert found.moved == 5 * 4 * 16 * 4


@pytest.mark.parametrize(("axis", "together"), [("x", 1), ("y", 2), ("z", 2)])
def test_which_of_a_group_share_a_node(axis, together):
    (found,) = _found(lambda x: jax.lax.psum(x, axis), PartitionSpec(), node=4)
    assert found.spread == together


def test_groups_that_are_no_axes_are_told_apart():
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


def test_moved_bytes_by_hand():
    gather = Collective("all-gather", ("x",), 4, 4, 1000, 3, "")
    assert gather.moved == 3 * 750
    assert gather._replace(kind="all-reduce").moved == 3 * 1500
    assert gather._replace(kind="collective-permute").moved == 3000
