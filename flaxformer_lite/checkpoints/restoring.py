"""The parameters of one checkpoint, for what decodes."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from flaxformer_lite.checkpoints.format import Stored, first_sound, read, reading, steps_of
from flaxformer_lite.checkpoints.records import AVERAGE, best_first, check_folder, read_history, read_record
from flaxformer_lite.errors import InputError
from flaxformer_lite.system import multihost

logger = logging.getLogger(__name__)


def find(folder: Path, which: str | int, metric: str) -> tuple[Path, int]:
    """The folder and the number in it of one checkpoint, which may be damaged; the arguments are ``restore_params``'.

    Raises:
      InputError: there is no such checkpoint.
    """
    place = _average_in(folder) if which == "average" else folder
    check_folder(place)
    steps = _order(place, "latest" if which == "average" else which, metric)
    if not steps:
        raise InputError(f"{place}: there are no checkpoints yet")
    return place, steps[0]


def restore_params(folder: Path, which: str | int, metric: str, like: Any) -> tuple[int, Any]:
    """Step and parameters of one checkpoint: their moving average, where the run keeps one.

    Args:
      folder: the checkpoints of a run.
      which: ``best`` by the metric (the latest, where nothing has been evaluated), ``latest``, a step, or ``average``,
        what ``save_average`` made (its step is that of the last checkpoint in it). Where best or latest is damaged,
        that is said and the next one taken.
      metric: by which the run was evaluated.
      like: parameters as ``jax.ShapeDtypeStruct`` with shardings: where they shall be.

    Raises:
      InputError: there is no such checkpoint, or none that is sound.
    """
    if which == "average":
        return _restore_average(folder, like)
    with reading(folder, _largest(like)) as manager:

        def pass_over(step: int, why: str) -> None:
            if step == which:
                refuse(folder, step, why)
            logger.info(f"checkpoint {folder / str(step)} is damaged ({why}); passed over")

        steps = _order(folder, which, metric)
        found = first_sound(steps, partial(_read_served, manager, like), pass_over)
    if not steps:
        raise InputError(f"{folder}: there are no checkpoints yet")
    if not found:
        raise InputError(f"{folder}: no sound checkpoint is left of steps {sorted(steps)}")
    step, read = found
    (params,) = read.parts.values()
    return step, params


def _largest(like: Any) -> int:
    """Bytes of the largest array, were it float32 as moving averages are."""
    return max(4 * leaf.size for leaf in jax.tree.leaves(like))


def _restore_average(folder: Path, like: Any) -> tuple[int, Any]:
    place = _average_in(folder)
    with reading(place) as manager:
        numbers = steps_of(place)
        found = first_sound(numbers, partial(read, manager, {"params": like}), partial(refuse, place))
    if not found:
        raise InputError(f"{folder}: there is no average of checkpoints; flaxformer-lite average makes one")
    parts, run, *_ = found[1]
    logger.info(f"the average of the checkpoints of steps {', '.join(map(str, run['steps']))}")
    return run["steps"][-1], parts["params"]


def _average_in(folder: Path) -> Path:
    place = folder / AVERAGE
    if not place.is_dir():
        raise InputError(f"{folder}: there is no average of checkpoints; flaxformer-lite average makes one")
    return place


def _read_served(manager: ocp.CheckpointManager, like: Any, step: int) -> Stored:
    """The parameters that decoding uses, and they alone."""
    if "ema" not in read_record(Path(manager.directory), step)["checksums"]:
        return read(manager, {"params": like}, step)
    average = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=x.sharding), like)
    return read(manager, {"ema": average}, step)


def refuse(folder: Path, step: int, why: str) -> NoReturn:
    """Says that a checkpoint is damaged, where no other will do."""
    raise InputError(f"checkpoint {folder / str(step)} is damaged ({why})")


def _order(folder: Path, which: str | int, metric: str) -> list[int]:
    """The steps to try, in turn."""
    steps = steps_of(folder)
    if isinstance(which, int):
        if which not in steps:
            there = f"there are {steps[::-1]}" if steps else "there is none yet"
            raise InputError(f"{folder}: there is no checkpoint of step {which}; {there}")
        return [which]
    if which == "latest":
        return steps
    return multihost.all_gather_json(best_first(steps, read_history(folder, steps), metric))[0]
