"""In what two checkpoints differ: how far each parameter has moved, read a few at a time."""

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

from flaxformer_lite.checkpoints.format import quiet_orbax
from flaxformer_lite.checkpoints.records import read_record
from flaxformer_lite.checkpoints.restoring import refuse
from flaxformer_lite.errors import InputError
from flaxformer_lite.hashing import checksum_of, sum_of

Found = TypeVar("Found")

_AT_ONCE = 1 << 24  # bytes of each checkpoint in memory, or one array where it alone is more
_PART = 1 << 20  # elements


class Change(NamedTuple):
    """How far one parameter has moved.

    Attributes:
      name: its path, with layers one by one.
      shape: of the array.
      relative: ‖after - before‖ / ‖before‖ (L2); infinite where it was 0.
      largest: the largest change of one element.
    """

    name: str
    shape: tuple[int, ...]
    relative: float
    largest: float


class Comparison(NamedTuple):
    """Two checkpoints.

    Attributes:
      changes: of the parameters that both have in the same shape, those first that moved most.
      relative: of all of them together.
      unlike: a line for each parameter that only one has, or in another shape.
    """

    changes: list[Change]
    relative: float
    unlike: list[str]


class _Origin(NamedTuple):
    """Where a parameter lies: number of the stored array, and which layer of it (-1: all of it)."""

    array: int
    layer: int
    shape: tuple[int, ...]


class _Parameters:
    """The parameters of one checkpoint: their names at once, their values when they are asked for."""

    def __init__(self, folder: Path, step: int):
        self._folder, self._step = folder, step
        self._reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
        self._place = (folder / str(step) / "params").absolute()
        self._checksum = self._tried(lambda: read_record(folder, step)["checksums"]["params"])
        untyped: Any = self._reader
        self._tree = self._tried(lambda: untyped.metadata(self._place).item_metadata.tree)
        leaves = jax.tree.leaves_with_path(self._tree)
        self.sizes = [math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for _, leaf in leaves]
        self.origins = {
            name: origin for i, (path, leaf) in enumerate(leaves) for name, origin in _origins(i, path, leaf.shape)
        }
        self._sums = [0] * len(leaves)

    def read(self, numbers: set[int]) -> dict[int, np.ndarray]:
        """Some of the stored arrays, by their number."""
        leaves, structure = jax.tree.flatten(self._tree)
        item = [
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if i in numbers else ocp.PLACEHOLDER
            for i, leaf in enumerate(leaves)
        ]
        how = [ocp.RestoreArgs(restore_type=np.ndarray)] * len(leaves)
        wanted = ocp.args.PyTreeRestore(item=structure.unflatten(item), restore_args=structure.unflatten(how))
        found = self._tried(lambda: jax.tree.leaves(self._reader.restore(self._place, args=wanted)))
        arrays = {i: found[i] for i in numbers}
        for i, array in arrays.items():
            self._sums[i] = sum_of(array)
        return arrays

    def verify(self) -> None:
        """Refuses a damaged checkpoint; after every array has been read."""
        if checksum_of(self._sums) != self._checksum:
            refuse(self._folder, self._step, "the parameters do not match their checksum")

    def _tried(self, act: Callable[[], Found]) -> Found:
        try:
            return act()
        except Exception as error:  # whatever a damaged file makes its reader raise
            why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        gc.collect()  # what was left unfinished complains when it is collected: now, while nobody hears it
        refuse(self._folder, self._step, why)


def compare(before: tuple[Path, int], after: tuple[Path, int]) -> Comparison:
    """Compares the parameters of two checkpoints, with layers one by one or side by side in either.

    It is the parameters themselves, also where a run keeps a moving average of them.

    Args:
      before: folder of checkpoints, and the number of one in it.
      after: alike.

    Raises:
      InputError: one is damaged, or they have no parameter in common.
    """
    with quiet_orbax():
        sides = (_Parameters(*before), _Parameters(*after))
        changes, squares = [], np.zeros(2)
        for names in _portions(sides):
            arrays = [side.read({side.origins[name].array for name in names if name in side.origins}) for side in sides]
            for name in filter(lambda name: _alike(sides, name), names):
                old, new = (_value(side.origins[name], read) for side, read in zip(sides, arrays, strict=True))
                moved, base, largest = _measure(old, new)
                squares += moved, base
                changes.append(Change(name, old.shape, _ratio(moved, base), largest))
        for side in sides:
            side.verify()
    if not changes:
        raise InputError(f"{before[0]} and {after[0]} have no parameter in common; are they runs of one model?")
    changes.sort(key=lambda change: (-change.relative, -change.largest, change.name))
    return Comparison(changes, _ratio(*squares), _unlike(sides, (before, after)))


def _portions(sides: Sequence[_Parameters]) -> Iterator[list[str]]:
    """All names, a few at a time; a stored array in which many layers lie is asked for once."""
    names = sorted({name for side in sides for name in side.origins}, key=_as_if_side_by_side)
    portion: list[str] = []
    needed: list[set[int]] = [set(), set()]
    for name in names:
        wanted = [{side.origins[name].array} if name in side.origins else set() for side in sides]
        held = [sum(side.sizes[i] for i in have | want) for side, have, want in zip(sides, needed, wanted, strict=True)]
        shared = any(have & want for have, want in zip(needed, wanted, strict=True))
        if portion and not shared and max(held) > _AT_ONCE:
            yield portion
            portion, needed = [], [set(), set()]
        portion.append(name)
        needed = [have | want for have, want in zip(needed, wanted, strict=True)]
    yield portion


def _origins(number: int, path: Sequence[Any], shape: tuple[int, ...]) -> Iterator[tuple[str, _Origin]]:
    parts = [str(getattr(key, "key", key)) for key in path]
    if "layers" not in parts:
        yield "/".join(parts), _Origin(number, -1, tuple(shape))
        return
    place = parts.index("layers")
    for layer in range(shape[0]):
        name = "/".join([*parts[:place], f"layers_{layer}", *parts[place + 1 :]])
        yield name, _Origin(number, layer, tuple(shape[1:]))


def _value(origin: _Origin, arrays: dict[int, np.ndarray]) -> np.ndarray:
    array = arrays[origin.array]
    return array if origin.layer < 0 else array[origin.layer]


def _measure(old: np.ndarray, new: np.ndarray) -> tuple[float, float, float]:
    """Σ (new - old)², Σ old² and the largest |new - old|, in float64, of which a part is made at a time."""
    moved = base = largest = 0.0
    for start in range(0, old.size, _PART):
        before, after = (np.asarray(array.reshape(-1)[start : start + _PART], np.float64) for array in (old, new))
        difference = after - before
        moved += float(difference @ difference)
        base += float(before @ before)
        largest = max(largest, float(np.abs(difference).max()))
    return moved, base, largest


def _as_if_side_by_side(name: str) -> tuple[str, int]:
    layer = re.search(r"layers_(\d+)", name)
    return re.sub(r"layers_\d+", "layers", name, count=1), int(layer[1]) if layer else 0


def _alike(sides: Sequence[_Parameters], name: str) -> bool:
    left, right = (side.origins.get(name) for side in sides)
    return left is not None and right is not None and left.shape == right.shape


def _unlike(sides: Sequence[_Parameters], places: Sequence[tuple[Path, int]]) -> list[str]:
    labels = [folder / str(step) for folder, step in places]
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
