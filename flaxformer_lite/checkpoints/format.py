"""What lies in a checkpoint: arrays and a record, written and read by Orbax, and known to be as they were.

Orbax reads an array with a flipped byte as if nothing were wrong, so checksums lie beside the arrays.
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

from flaxformer_lite.checkpoints.layer_layout import are_side_by_side, brought_into, in_form
from flaxformer_lite.checkpoints.records import check_folder, read_record, steps_in
from flaxformer_lite.errors import InputError
from flaxformer_lite.hashing import checksum
from flaxformer_lite.system import multihost

Found = TypeVar("Found")

_NAMES = {
    "params": "parameters",
    "ema": "parameters' moving average",
    "training": "optimizer's moments",
}


class Stored(NamedTuple):
    """What was read of a checkpoint.

    Attributes:
      parts: arrays by the name of their part.
      run: the record beside them.
      checksums: what the parts should come to.
      like: the parts as they were asked for.
    """

    parts: dict[str, Any]
    run: dict[str, Any]
    checksums: dict[str, int]
    like: dict[str, Any]

    def verify(self) -> None:
        """Raises where an array is not as it was saved. All processes must come here: each has but its own parts."""
        for name, tree in self.parts.items():
            _compare(self.checksums[name], checksum(tree), _NAMES[name])

    def as_asked(self) -> Stored:
        """The same, with the layers in the form that was asked for."""
        return self._replace(parts={name: brought_into(self.like[name], tree) for name, tree in self.parts.items()})


def write(manager: ocp.CheckpointManager, step: int, parts: dict[str, Any], run: dict[str, Any]) -> None:
    """Begins to write a checkpoint; of several processes, each its own part of the arrays."""
    scanned = any(are_side_by_side(tree) for tree in parts.values())
    run = run | {"scanned": scanned, "shapes": {name: _checksum_of_shapes(tree) for name, tree in parts.items()}}
    checksums = {name: checksum(tree) for name, tree in parts.items()} | {"run": _checksum_of_text(run)}
    arrays = {name: ocp.args.StandardSave(tree) for name, tree in parts.items()}
    record = ocp.args.JsonSave(run | {"checksums": checksums})
    with jax.transfer_guard("allow"):  # Orbax has processes wait for one another with small arrays
        manager.save(step, args=ocp.args.Composite(**arrays, run=record))


def read(manager: ocp.CheckpointManager, like: dict[str, Any], step: int) -> Stored:
    """Some parts of a checkpoint and its record, in the form that the layers were saved in."""
    run = read_record(Path(manager.directory), step)
    checksums = run.pop("checksums")
    _compare(checksums["run"], _checksum_of_text(run), "run's record")
    stored = {name: in_form(tree, run["scanned"]) for name, tree in like.items()}
    for name, tree in stored.items():
        if tree != like[name] and _checksum_of_shapes(tree) != run["shapes"][name]:
            raise InputError(
                f"config.model.scan_layers: the {_NAMES[name]} of step {step} cannot be brought from one form into the "
                "other: not every optimizer keeps them layer by layer; go on with the value that the run began with"
            )
    arrays = {name: ocp.args.StandardRestore(tree) for name, tree in stored.items()}
    found: Any = manager.restore(step, args=ocp.args.Composite(**arrays))
    return Stored({name: found[name] for name in like}, run, checksums, like)


@contextlib.contextmanager
def reading(folder: Path, largest: int = 10**10) -> Iterator[ocp.CheckpointManager]:
    """Orbax's view of a folder of checkpoints, to read from; each process has its own.

    Args:
      folder: of the checkpoints.
      largest: bytes of the largest array. Each is held twice while it is read, so many bytes of them at a time.

    Raises:
      InputError: there is no such folder.
    """
    check_folder(folder)
    alone = multihost.process_index()  # each process reads for itself: one that fails must not leave the others waiting
    options = ocp.CheckpointManagerOptions(
        read_only=True,
        save_interval_steps=0,
        create=False,
        multiprocessing_options=ocp.options.MultiprocessingOptions(alone, {alone}, f"reader{alone}"),
    )
    handlers = {
        name: ocp.StandardCheckpointHandler(restore_concurrent_gb=max(1.01 * largest, 2**24) / 10**9)  # pyright: ignore[reportArgumentType]
        for name in _NAMES
    }
    place = folder.absolute()
    with quiet_orbax(), ocp.CheckpointManager(place, options=options, item_handlers=handlers) as manager:
        yield manager


def first_sound(
    steps: Sequence[int], read: Callable[[int], Stored], damaged: Callable[[int, str], None]
) -> tuple[int, Stored] | None:
    """The first of these checkpoints that every process can read; ``damaged`` is told of each before it, and why."""
    for step in steps:
        found, why = _tried(partial(read, step))
        if found and not why:
            _, why = _tried(found.verify)
            if not why:
                return step, found.as_asked()
        gc.collect()  # what was left unfinished complains when it is collected: now, while nobody hears it
        damaged(step, why)
    return None


def _tried(act: Callable[[], Found]) -> tuple[Found | None, str]:
    """What ``act`` gives, and what went wrong with it in any process, in a few words."""
    found, why = None, ""
    try:
        found = act()
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes its reader raise
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return found, next(filter(None, multihost.all_gather_json(why)), "")


def steps_of(folder: Path) -> list[int]:
    """The steps of all checkpoints, the newest first; as the first process sees them, where there are several."""
    return multihost.all_gather_json(steps_in(folder))[0]


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Keeps Orbax, and what it leaves unfinished where it fails, from telling people so: failures are raised anyway."""
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
    return _checksum_of_text([leaf.shape for leaf in jax.tree.leaves(tree)])


def _checksum_of_text(values: Any) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _compare(kept: int, found: int, what: str) -> None:
    if kept != found:
        raise ValueError(f"the {what} do not match their checksum")
