"""Difference of the parameters of two checkpoints, of which a few are read at a time."""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from flaxformer_lite.checkpoints.listing import read_record
from flaxformer_lite.checkpoints.restore_params import raise_damaged
from flaxformer_lite.checkpoints.storage import first_line, silence_orbax
from flaxformer_lite.checksum import checksum_of, sum_of
from flaxformer_lite.errors import InputError

T = TypeVar("T")

_CHUNK_BYTES = 1 << 24  # of each checkpoint in memory, or one array where that is larger
_CHUNK_ELEMENTS = 1 << 20  # converted to float64 at a time


class ParameterChange(NamedTuple):
    """The change of one parameter.

    Attributes:
      name: its path, with one subtree per layer.
      shape: of the array.
      relative: ‖after - before‖ / ‖before‖ (L2); infinite where it was 0.
      largest: the largest change of one element.
    """

    name: str
    shape: tuple[int, ...]
    relative: float
    largest: float


class CheckpointDiff(NamedTuple):
    """The difference of two checkpoints.

    Attributes:
      changes: of the parameters that both have with equal shapes, the largest relative change first.
      relative: ‖after - before‖ / ‖before‖ of all of them together.
      unmatched: a line for each parameter that only one has, or with another shape.
    """

    changes: list[ParameterChange]
    relative: float
    unmatched: list[str]


class _Origin(NamedTuple):
    """Where a parameter is stored: index of the array, and the layer in it (-1: the whole array)."""

    array: int
    layer: int
    shape: tuple[int, ...]


class _Parameters:
    """The parameters of one checkpoint: names are read at once, values on demand."""

    def __init__(self, folder: Path, step: int):
        self._folder, self._step = folder, step
        self._reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
        self._path = (folder / str(step) / "params").absolute()
        self._checksum = self._try(lambda: read_record(folder, step)["checksums"]["params"])
        untyped: Any = self._reader
        self._tree = self._try(lambda: untyped.metadata(self._path).item_metadata.tree)
        leaves = jax.tree.leaves_with_path(self._tree)
        self.sizes = [math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for _, leaf in leaves]
        self.origins = {
            name: origin for i, (path, leaf) in enumerate(leaves) for name, origin in _origins(i, path, leaf.shape)
        }
        self._sums = [0] * len(leaves)

    def read(self, indices: set[int]) -> dict[int, np.ndarray]:
        """Some of the stored arrays, by index."""
        leaves, structure = jax.tree.flatten(self._tree)
        item = [
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if i in indices else ocp.PLACEHOLDER
            for i, leaf in enumerate(leaves)
        ]
        as_numpy = [ocp.RestoreArgs(restore_type=np.ndarray)] * len(leaves)
        wanted = ocp.args.PyTreeRestore(item=structure.unflatten(item), restore_args=structure.unflatten(as_numpy))
        found = self._try(lambda: jax.tree.leaves(self._reader.restore(self._path, args=wanted)))
        arrays = {i: found[i] for i in indices}
        for i, array in arrays.items():
            self._sums[i] = sum_of(array)
        return arrays

    def verify(self) -> None:
        """Raises where the checkpoint is damaged; called after every array has been read."""
        if checksum_of(self._sums) != self._checksum:
            raise_damaged(self._folder, self._step, "the parameters do not match their checksum")

    def _try(self, function: Callable[[], T]) -> T:
        try:
            return function()
        except Exception as error:  # any exception that a damaged file causes
            reason = first_line(error)
        gc.collect()  # destructors of the failed read report errors: here, while Orbax is silenced
        raise_damaged(self._folder, self._step, reason)


def diff_checkpoints(before: tuple[Path, int], after: tuple[Path, int]) -> CheckpointDiff:
    """The difference of two checkpoints (directory and step), each with stacked or separate layers.

    It compares the parameters themselves, also where a run keeps a moving average of them.

    Raises:
      InputError: one is damaged, or they have no parameter in common.
    """
    with silence_orbax():
        sides = (_Parameters(*before), _Parameters(*after))
        changes, squares = [], np.zeros(2)
        for names in _chunks(sides):
            arrays = [side.read({side.origins[name].array for name in names if name in side.origins}) for side in sides]
            for name in filter(lambda name: _match(sides, name), names):
                old, new = (_value(side.origins[name], read) for side, read in zip(sides, arrays, strict=True))
                moved, base, largest = _measure(old, new)
                squares += moved, base
                changes.append(ParameterChange(name, old.shape, _ratio(moved, base), largest))
        for side in sides:
            side.verify()
    if not changes:
        raise InputError(f"{before[0]} and {after[0]}", "have no parameter in common", "are they runs of one model?")
    changes.sort(key=lambda change: (-change.relative, -change.largest, change.name))
    return CheckpointDiff(changes, _ratio(*squares), _unmatched(sides, (before, after)))


def _chunks(sides: Sequence[_Parameters]) -> Iterator[list[str]]:
    """All names in chunks; an array of stacked layers is read once."""
    names = sorted({name for side in sides for name in side.origins}, key=_stacked_order)
    chunk: list[str] = []
    needed: list[set[int]] = [set(), set()]
    for name in names:
        wanted = [{side.origins[name].array} if name in side.origins else set() for side in sides]
        held = [sum(side.sizes[i] for i in have | want) for side, have, want in zip(sides, needed, wanted, strict=True)]
        shared = any(have & want for have, want in zip(needed, wanted, strict=True))
        if chunk and not shared and max(held) > _CHUNK_BYTES:
            yield chunk
            chunk, needed = [], [set(), set()]
        chunk.append(name)
        needed = [have | want for have, want in zip(needed, wanted, strict=True)]
    yield chunk


def _origins(number: int, path: Sequence[Any], shape: tuple[int, ...]) -> Iterator[tuple[str, _Origin]]:
    parts = [str(getattr(key, "key", key)) for key in path]
    if "layers" not in parts:
        yield "/".join(parts), _Origin(number, -1, tuple(shape))
        return
    index = parts.index("layers")
    for layer in range(shape[0]):
        name = "/".join([*parts[:index], f"layers_{layer}", *parts[index + 1 :]])
        yield name, _Origin(number, layer, tuple(shape[1:]))


def _value(origin: _Origin, arrays: dict[int, np.ndarray]) -> np.ndarray:
    array = arrays[origin.array]
    return array if origin.layer < 0 else array[origin.layer]


def _measure(old: np.ndarray, new: np.ndarray) -> tuple[float, float, float]:
    """Σ (new - old)², Σ old² and the largest |new - old|, in float64."""
    moved = base = largest = 0.0
    for start in range(0, old.size, _CHUNK_ELEMENTS):
        before, after = (
            np.asarray(array.reshape(-1)[start : start + _CHUNK_ELEMENTS], np.float64) for array in (old, new)
        )
        difference = after - before
        moved += float(difference @ difference)
        base += float(before @ before)
        largest = max(largest, float(np.abs(difference).max()))
    return moved, base, largest


def _stacked_order(name: str) -> tuple[str, int]:
    layer = re.search(r"layers_(\d+)", name)
    return re.sub(r"layers_\d+", "layers", name, count=1), int(layer[1]) if layer else 0


def _match(sides: Sequence[_Parameters], name: str) -> bool:
    left, right = (side.origins.get(name) for side in sides)
    return left is not None and right is not None and left.shape == right.shape


def _unmatched(sides: Sequence[_Parameters], checkpoints: Sequence[tuple[Path, int]]) -> list[str]:
    labels = [folder / str(step) for folder, step in checkpoints]
    lines = []
    for name in sorted({name for side in sides for name in side.origins}):
        shapes = [side.origins[name].shape if name in side.origins else None for side in sides]
        if None in shapes:
            lines.append(f"{name}: only in {labels[shapes.index(None) - 1]}")
        elif shapes[0] != shapes[1]:
            lines.append(f"{name}: {shapes[0]} in {labels[0]}, {shapes[1]} in {labels[1]}")
    return lines


def _ratio(moved: float, base: float) -> float:
    return math.sqrt(moved / base) if base else math.inf if moved else 0.0
