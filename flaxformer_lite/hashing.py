"""Hashes of array elements: functions of values and indices alone, so the same on any number of devices."""

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
    for axis, size in enumerate(shape):  # along each axis an iota, of which every device can make its own part
        numbers = numbers * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return numbers


_FACTOR = 0xADB4A92D  # of a linear congruential generator modulo 2³² that Steele & Vigna (2022) found good


def position_hash(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """A number for each element, made of its indices alone: the same whatever an axis is padded to.

    ``Σ indexᵢ · factor^(rank - 1 - i)`` modulo 2³². That the factor passes the spectral test means that two elements
    have the same number only if they are far apart: 68,724 places in an array of two axes (the length of the vector
    between them), 1,708 in one of three, 230 in one of four.
    """
    numbers = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        numbers = numbers * jnp.uint32(_FACTOR) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return numbers


def murmur3_finalizer(bits: UInt32[Array, "*b"]) -> UInt32[Array, "*b"]:
    """The finalizer of murmur3 (Appleby 2011), which makes other bits of other bits."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


def checksum(tree: Any) -> int:
    """32 bits of all arrays, computed where they lie; however they are laid out, it is the same number.

    A change of one element always changes it, any other change but once in 2³² times.
    """
    # One after the other: many at a time, each waiting for other processes, can take all threads of a CPU's pool.
    return checksum_of([sum_of(leaf) for leaf in jax.tree.leaves(tree)])


def sum_of(array: Any) -> int:
    """What one array adds to a checksum."""
    spread = isinstance(array, jax.Array) and len(array.sharding.device_set) > 1
    return int(jax.device_get(_sum(array) if spread or array.size <= _BLOCK else _sum_in_blocks(array)))


def checksum_of(sums: Sequence[int]) -> int:
    """The checksum of a tree whose leaves have these sums."""
    return zlib.crc32(np.array(sums, "<u4").tobytes())


# Elements that one device hashes at a time: XLA's programs for CPUs write all hashes down before they add them up.
_BLOCK = 2**20


@jax.jit
def _sum(array: Array) -> UInt32[Array, ""]:
    """The sum of the elements' hashes: whole numbers, which come to the same in any order."""
    return _sum_from(array, jnp.uint32(0))


@jax.jit
def _sum_in_blocks(array: Array) -> UInt32[Array, ""]:
    """The same sum; it takes no memory to speak of, where the array lies on one device."""
    elements = array.reshape(-1)
    whole = elements.size // _BLOCK * _BLOCK

    def add(i: Array, total: Array) -> Array:
        block = jax.lax.dynamic_slice_in_dim(elements, i * _BLOCK, _BLOCK)
        return total + _sum_from(block, jnp.uint32(i * _BLOCK))

    rest = _sum_from(elements[whole:], jnp.uint32(whole))
    return jax.lax.fori_loop(0, whole // _BLOCK, add, rest)


def _sum_from(array: Array, first: Array) -> UInt32[Array, ""]:
    """Of elements that are counted from ``first``."""
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    words = array.view(f"uint{8 * min(array.dtype.itemsize, 4)}").astype(jnp.uint32)
    first = first * jnp.uint32(words.size // max(array.size, 1))
    return murmur3_finalizer(murmur3_finalizer(index(words.shape) + first + jnp.uint32(1)) ^ words).sum(
        dtype=jnp.uint32
    )
