"""Stateless random numbers in NumPy: pure functions of a key and a counter, vectorized over many keys."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Integer, UInt64

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # the increment of SplitMix64, odd and close to 2⁶⁴ divided by the golden ratio

_MAX_ROWS = 2**16  # that random_subsets sorts together


def make_keys(seed: int, *indices: int | Integer[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Returns one key per row, a function of the seed and of that row's indices.

    Args:
      seed: a number from 0.
      indices: such as the position in a stream of examples; integers are the same for all rows.
    """
    keys = _mix(np.array([seed % 2**64], np.uint64))
    for index in indices:
        keys = _mix(keys * _GAMMA + np.atleast_1d(np.asarray(index)).astype(np.uint64))
    return keys


def fold_in(keys: UInt64[np.ndarray, " n"], data: int) -> UInt64[np.ndarray, " n"]:
    """Returns new keys for another use of the same rows, such as ``jax.random.fold_in``."""
    return _mix(keys * _GAMMA + np.uint64(data))


def random_bits(keys: UInt64[np.ndarray, " n"], counters: Integer[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Returns 64 random bits for each pair of a key and a counter (SplitMix64; Steele, Lea and Flood 2014)."""
    return _mix(keys + (counters.astype(np.uint64) + np.uint64(1)) * _GAMMA)


def uniform(keys: UInt64[np.ndarray, " n"], counters: Integer[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Returns a uniformly distributed number in [0, 1) for each pair of a key and a counter."""
    return (random_bits(keys, counters) >> np.uint64(11)) * 2.0**-53


def random_subsets(
    keys: UInt64[np.ndarray, " n"], sizes: Integer[np.ndarray, " n"], counts: Integer[np.ndarray, " n"]
) -> tuple[Integer[np.ndarray, " chosen"], Integer[np.ndarray, " chosen"]]:
    """Chooses for each row i a uniformly distributed subset of ``counts[i]`` of the integers below ``sizes[i]``.

    Args:
      keys: one per row.
      sizes: of the sets, at most 2²⁴.
      counts: of chosen elements, at most ``sizes``.

    Returns:
      The chosen elements of all rows, in increasing order within a row, and the row of each.
    """
    if len(sizes) > _MAX_ROWS:
        parts = [
            random_subsets(*(array[i : i + _MAX_ROWS] for array in (keys, sizes, counts)))
            for i in range(0, len(sizes), _MAX_ROWS)
        ]
        elements, rows = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        of_part = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        return elements, rows + of_part * _MAX_ROWS
    rows, elements = _enumerate(sizes)
    bits = random_bits(keys[rows.astype(np.int64)], elements) >> np.uint64(40)
    # np.sort of plain integers is ten times as fast as np.lexsort: 16 bits of the row, 24 random, 24 of the element.
    order = np.sort((rows << np.uint64(48)) | (bits << np.uint64(24)) | elements)
    chosen_rows, ranks = _enumerate(counts)
    firsts = (np.cumsum(sizes) - sizes).astype(np.uint64)
    elements = order[firsts[chosen_rows.astype(np.int64)] + ranks] & np.uint64(2**24 - 1)
    chosen = np.sort((chosen_rows << np.uint64(48)) | elements)
    return (chosen & np.uint64(2**24 - 1)).astype(np.int64), chosen_rows.astype(np.int64)


def _enumerate(sizes: Integer[np.ndarray, " n"]) -> tuple[UInt64[np.ndarray, " m"], UInt64[np.ndarray, " m"]]:
    """The row of each element of rows of these sizes, and its index within the row."""
    rows = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
    firsts = (np.cumsum(sizes) - sizes).astype(np.uint64)
    return rows, np.arange(len(rows), dtype=np.uint64) - firsts[rows.astype(np.int64)]


def _mix(bits: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """The finalizer of SplitMix64, a bijection of 64 bits."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
