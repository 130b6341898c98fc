"""Restores the parameters of one checkpoint for decoding."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from flaxformer_lite.checkpoints.listing import AVERAGE, best_first, check_folder, read_history, read_record
from flaxformer_lite.checkpoints.storage import StoredCheckpoint, checkpoint_steps, first_intact, open_reader, read
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.system import multihost

logger = logging.getLogger(__name__)


def find(folder: Path, which: str | int, metric: str) -> tuple[Path, int]:
    """The directory of one checkpoint, which may be damaged, and its number there; arguments as in ``restore_params``.

    Raises:
      InputError: there is no such checkpoint.
    """
    path = _average_in(folder) if which == "average" else folder
    check_folder(path)
    steps = _candidates(path, "latest" if which == "average" else which, metric)
    require(bool(steps), str(path), "there are no checkpoints yet")
    return path, steps[0]


def restore_params(folder: Path, which: str | int, metric: str, like: Any) -> tuple[int, Any]:
    """Step and parameters of one checkpoint: the moving average of the parameters, where the run keeps one.

    Args:
      folder: the checkpoints of a run.
      which: ``best`` by the metric (the latest, where none was evaluated), ``latest``, a step, or ``average``, the
        result of ``save_average``, whose step is that of the last checkpoint in it. Instead of a damaged best or latest
        checkpoint the next one is restored, with a message.
      metric: by which the run was evaluated.
      like: parameters as ``jax.ShapeDtypeStruct`` with shardings.

    Raises:
      InputError: there is no such checkpoint, or no intact one.
    """
    path = _average_in(folder) if which == "average" else folder
    largest = max(4 * leaf.size for leaf in jax.tree.leaves(like))  # moving averages are float32
    with open_reader(path, largest) as manager:

        def skip(step: int, reason: str) -> None:
            if which in (step, "average"):
                raise_damaged(path, step, reason)
            logger.warning(f"checkpoint {path / str(step)} is damaged ({reason}) and skipped")

        steps = _candidates(path, "latest" if which == "average" else which, metric)
        found = first_intact(steps, partial(_read_eval_params, manager, like), skip)
    require(bool(steps), str(path), "there are no checkpoints yet")
    if not found:
        raise InputError(str(path), f"all checkpoints (steps {sorted(steps)}) are damaged")
    step, stored = found
    (params,) = stored.parts.values()
    if which == "average":
        averaged = stored.record["steps"]
        logger.info(f"using the average of the checkpoints of steps {', '.join(map(str, averaged))}")
        return averaged[-1], params
    return step, params


def raise_damaged(folder: Path, step: int, reason: str) -> NoReturn:
    """Raises the error of a damaged checkpoint that no other one can replace."""
    raise InputError(f"checkpoint {folder / str(step)}", f"is damaged ({reason})")


def _average_in(folder: Path) -> Path:
    path = folder / AVERAGE
    exists = path.is_dir() and bool(checkpoint_steps(path))
    require(exists, str(folder), "there is no average of checkpoints", "the command `average` makes one")
    return path


def _read_eval_params(manager: ocp.CheckpointManager, like: Any, step: int) -> StoredCheckpoint:
    """Reads the parameters for evaluation and decoding only."""
    if "ema" not in read_record(Path(manager.directory), step)["checksums"]:
        return read(manager, {"params": like}, step)
    ema = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=x.sharding), like)
    return read(manager, {"ema": ema}, step)


def _candidates(folder: Path, which: str | int, metric: str) -> list[int]:
    """The steps to try, in order."""
    steps = checkpoint_steps(folder)
    if isinstance(which, int):
        there = f"there are {steps[::-1]}" if steps else "there is none yet"
        require(which in steps, str(folder), f"there is no checkpoint of step {which}; {there}")
        return [which]
    if which == "latest":
        return steps
    return multihost.all_gather_json(best_first(steps, read_history(folder, steps), metric))[0]
