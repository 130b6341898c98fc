"""Checkpoint format: arrays and a record, read and written by Orbax, with checksums.

Orbax reads an array with a flipped bit without an error, so the record has a checksum of each part.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import orbax.checkpoint as ocp

from flaxformer_lite.checkpoints.layer_layout import is_stacked, shapes_in_layout, to_layout_of
from flaxformer_lite.checkpoints.listing import check_folder, read_record, steps_in
from flaxformer_lite.checksum import checksum
from flaxformer_lite.errors import InputError
from flaxformer_lite.system import multihost

T = TypeVar("T")

_PART_NAMES = {
    "params": "parameters",
    "ema": "parameters' moving average",
    "training": "optimizer state",
}


class StoredCheckpoint(NamedTuple):
    """A checkpoint as it was read.

    Attributes:
      parts: arrays by the name of their part.
      record: the JSON record beside them.
      checksums: the expected checksum of each part.
      like: shapes and shardings of the parts that were asked for.
    """

    parts: dict[str, Any]
    record: dict[str, Any]
    checksums: dict[str, int]
    like: dict[str, Any]

    def verify(self) -> None:
        """Raises where an array is not as it was saved. All processes must call it: each has only its shards."""
        for name, tree in self.parts.items():
            _compare(self.checksums[name], checksum(tree), _PART_NAMES[name])

    def in_requested_layout(self) -> StoredCheckpoint:
        """The same checkpoint, with layers as in ``like``."""
        return self._replace(parts={name: to_layout_of(self.like[name], tree) for name, tree in self.parts.items()})


def write(manager: ocp.CheckpointManager, step: int, parts: dict[str, Any], record: dict[str, Any]) -> None:
    """Starts to write a checkpoint; each of several processes writes its own shards."""
    scanned = any(is_stacked(tree) for tree in parts.values())
    record = record | {"scanned": scanned, "shapes": {name: _checksum_of_shapes(tree) for name, tree in parts.items()}}
    checksums = {name: checksum(tree) for name, tree in parts.items()} | {"run": _checksum_of_json(record)}
    arrays = {name: ocp.args.StandardSave(tree) for name, tree in parts.items()}
    with jax.transfer_guard("allow"):  # Orbax synchronizes processes by small arrays
        run = ocp.args.JsonSave(record | {"checksums": checksums})
        manager.save(step, args=ocp.args.Composite(**arrays, run=run))


def read(manager: ocp.CheckpointManager, like: dict[str, Any], step: int) -> StoredCheckpoint:
    """Reads some parts of a checkpoint and its record, with layers as they were saved."""
    record = read_record(Path(manager.directory), step)
    checksums = record.pop("checksums")
    _compare(checksums["run"], _checksum_of_json(record), "run's record")
    stored = {name: shapes_in_layout(tree, record["scanned"]) for name, tree in like.items()}
    for name, tree in stored.items():
        if tree != like[name] and _checksum_of_shapes(tree) != record["shapes"][name]:
            raise InputError(
                "config.model.scan_layers",
                f"the {_PART_NAMES[name]} of step {step} cannot be converted between stacked and separate layers: not "
                "every optimizer keeps its state per layer",
                "resume with the value that the run began with",
            )
    arrays = {name: ocp.args.StandardRestore(tree) for name, tree in stored.items()}
    found: Any = manager.restore(step, args=ocp.args.Composite(**arrays))
    return StoredCheckpoint({name: found[name] for name in like}, record, checksums, like)


@contextlib.contextmanager
def open_reader(folder: Path, largest: int = 10**10) -> Iterator[ocp.CheckpointManager]:
    """Orbax's manager of a directory of checkpoints, for reading; each process has its own.

    Reading holds two copies of each array, of ``largest`` bytes at a time: those of the largest array.

    Raises:
      InputError: there is no such directory.
    """
    check_folder(folder)
    own = multihost.process_index()  # each process reads by itself, so that one that fails does not block the others
    options = ocp.CheckpointManagerOptions(
        read_only=True,
        save_interval_steps=0,
        create=False,
        multiprocessing_options=ocp.options.MultiprocessingOptions(own, {own}, f"reader{own}"),
    )
    handlers = {
        name: ocp.StandardCheckpointHandler(restore_concurrent_gb=max(1.01 * largest, 2**24) / 10**9)  # pyright: ignore[reportArgumentType]
        for name in _PART_NAMES
    }
    path = folder.absolute()
    with silence_orbax(), ocp.CheckpointManager(path, options=options, item_handlers=handlers) as manager:
        yield manager


def first_intact(
    steps: Sequence[int], read: Callable[[int], StoredCheckpoint], on_damage: Callable[[int, str], None]
) -> tuple[int, StoredCheckpoint] | None:
    """The first of these checkpoints that every process can read; ``on_damage(step, reason)`` for each before it."""
    for step in steps:
        found, reason = _try_on_all(partial(read, step))
        if found and not reason:
            _, reason = _try_on_all(found.verify)
            if not reason:
                return step, found.in_requested_layout()
        gc.collect()  # destructors of the failed read report errors: here, while Orbax is silenced
        on_damage(step, reason)
    return None


def _try_on_all(function: Callable[[], T]) -> tuple[T | None, str]:
    """The result of ``function``, and the reason why it failed in any process; "" where it succeeded in all."""
    result, reason = None, ""
    try:
        result = function()
    except InputError:
        raise
    except Exception as error:  # any exception that a damaged file causes
        reason = first_line(error)
    return result, next(filter(None, multihost.all_gather_json(reason)), "")


def first_line(error: Exception) -> str:
    """The first line of an exception's message, shortened; its type where there is no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps of all checkpoints, the newest first; of several processes, as the primary one sees them."""
    return multihost.all_gather_json(steps_in(folder))[0]


@contextlib.contextmanager
def silence_orbax() -> Iterator[None]:
    """Suppresses messages of Orbax and of unfinished operations after a failure; failures are raised anyway."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, hook = [logger.level for logger in loggers], sys.unraisablehook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _checksum_of_shapes(tree: Any) -> int:
    return _checksum_of_json([leaf.shape for leaf in jax.tree.leaves(tree)])


def _checksum_of_json(values: Any) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _compare(expected: int, actual: int, name: str) -> None:
    if expected != actual:
        raise ValueError(f"the {name} do not match their checksum")
