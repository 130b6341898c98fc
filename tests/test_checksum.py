"""Checksums of arrays: independent of the layout, different after any change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxformer_lite.checksum import checksum, index, position_hash

TYPES = ("float32", "bfloat16", "float16", "int32", "int8", "uint32", "bool")


def make(dtype, shape=(8, 6)):
    return jnp.asarray(np.random.default_rng(0).integers(0, 99, shape) % (2 if dtype == "bool" else 99), dtype)


def test_indices_number_the_elements():
    np.testing.assert_array_equal(index((3, 2, 5)), np.arange(30).reshape(3, 2, 5))


@pytest.mark.slow
def test_hashes_of_positions_are_distinct():
    for shape in ((512, 8_000), (64, 128, 500), (64, 8, 100, 80)):
        assert len(np.unique(position_hash(shape))) == np.prod(shape)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_same_on_any_mesh(dtype):
    array = make(dtype)
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y"))
    specs = [PartitionSpec(), PartitionSpec("x"), PartitionSpec("x", "y"), PartitionSpec(None, "y")]
    found = {checksum({"a": jax.device_put(array, NamedSharding(mesh, spec))}) for spec in specs}
    assert found == {checksum({"a": array})}


def test_large_arrays_in_blocks_have_the_same_sum():
    array = jnp.asarray(np.random.default_rng(0).standard_normal((1_031, 7, 293), np.float32))
    mesh = Mesh(np.array(jax.devices()[:7]), ("x",))
    spread = jax.device_put(array, NamedSharding(mesh, PartitionSpec(None, "x")))
    assert array.size > 2 * 2**20
    assert checksum({"a": array}) == checksum({"a": spread})


@pytest.mark.parametrize("dtype", TYPES)
def test_a_change_of_any_bit_is_found(dtype):
    whole = np.asarray(make(dtype))
    bits = 1 if dtype == "bool" else 8 * whole.itemsize
    for number in (0, 17, 47):
        for bit in range(bits):
            changed = whole.copy()
            words = changed.view(f"u{whole.itemsize}").reshape(-1)
            words[number] ^= words.dtype.type(1 << bit)
            assert checksum([jnp.asarray(changed)]) != checksum([jnp.asarray(whole)]), (number, bit)


def test_order_matters():
    array, other = make("float32"), make("float32") + 1
    assert checksum([array]) != checksum([array[::-1]])
    assert checksum([array]) != checksum([array.at[0, 1].set(array[0, 2]).at[0, 2].set(array[0, 1])])
    assert checksum([array, other]) != checksum([other, array])
    assert checksum([jnp.zeros(3)]) != checksum([jnp.zeros(4)])


def test_nan_infinity_negative_zero_and_subnormals_are_distinguished():
    odd = np.array([0.0, -0.0, np.nan, np.inf, 1e-45], np.float32)
    other = odd.copy()
    other.view(np.uint32)[2] ^= 1  # another NaN
    assert len({checksum([jnp.asarray(x)]) for x in (odd, other, np.abs(odd))}) == 3
    assert checksum([]) == checksum(())
    assert checksum([jnp.int32(3)]) != checksum([jnp.int32(4)])
