"""Hashes of array elements that depend on values and indices only, not on the number of devices."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32


def index(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """The number of each element, modulo 2³²."""
    numbers = jnp.zeros(shape, jnp.uint32)
    for axis, size in enumerate(shape):  # an iota per axis, which each device computes for its shard
        numbers = numbers * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return numbers


_FACTOR = 0xADB4A92D  # of a linear congruential generator modulo 2³² that Steele & Vigna (2022) found good


def position_hash(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """A hash of each element's indices, which does not depend on the padding of an axis.

    ``Σ indexᵢ · factor^(rank - 1 - i)`` modulo 2³². The factor passes the spectral test: two elements have the
    same hash only if they are far apart, by 68,724 positions in an array of two axes (Euclidean distance), 1,708 in one
    of three, 230 in one of four.
    """
    numbers = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        numbers = numbers * jnp.uint32(_FACTOR) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return numbers


def murmur3_finalizer(bits: UInt32[Array, "*b"]) -> UInt32[Array, "*b"]:
    """The finalizer of MurmurHash3 (Appleby 2011), a bijection of 32 bits."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


def checksum(tree: Any) -> int:
    """A 32-bit checksum of all arrays, computed on their devices; it does not depend on their sharding.

    A change of one element always changes it, another change with probability 1 - 2⁻³².
    """
    # Sequentially: concurrent sums that wait for other processes can occupy all threads of a CPU's pool.
    return checksum_of([sum_of(leaf) for leaf in jax.tree.leaves(tree)])


def sum_of(array: Any) -> int:
    """The sum of the element hashes of one array."""
    sharded = isinstance(array, jax.Array) and len(array.sharding.device_set) > 1
    return int(jax.device_get(_sum(array) if sharded or array.size <= _BLOCK else _sum_in_blocks(array)))


def checksum_of(sums: Sequence[int]) -> int:
    """The checksum of a tree whose leaves have these sums."""
    return zlib.crc32(np.array(sums, "<u4").tobytes())


# Elements that one device hashes at a time: XLA's programs for CPUs materialize all hashes before the reduction.
_BLOCK = 2**20


@jax.jit
def _sum(array: Array) -> UInt32[Array, ""]:
    """The sum of the elements' hashes; integers are exact in any order of summation."""
    return _sum_from(array, jnp.uint32(0))


@jax.jit
def _sum_in_blocks(array: Array) -> UInt32[Array, ""]:
    """The same sum with little memory, for an array on one device."""
    elements = array.reshape(-1)
    whole = elements.size // _BLOCK * _BLOCK

    def add(i: Array, total: Array) -> Array:
        block = jax.lax.dynamic_slice_in_dim(elements, i * _BLOCK, _BLOCK)
        return total + _sum_from(block, jnp.uint32(i * _BLOCK))

    rest = _sum_from(elements[whole:], jnp.uint32(whole))
    return jax.lax.fori_loop(0, whole // _BLOCK, add, rest)


def _sum_from(array: Array, first: Array) -> UInt32[Array, ""]:
    """The sum of hashes of elements with indices from ``first``."""
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    words = array.view(f"uint{8 * min(array.dtype.itemsize, 4)}").astype(jnp.uint32)
    first = first * jnp.uint32(words.size // max(array.size, 1))
    return murmur3_finalizer(murmur3_finalizer(index(words.shape) + first + jnp.uint32(1)) ^ words).sum(
        dtype=jnp.uint32
    )
