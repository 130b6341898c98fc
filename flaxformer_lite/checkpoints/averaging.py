"""Checkpoint averaging: the mean of a run's last checkpoints, saved beside them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from flaxformer_lite.checkpoints.listing import AVERAGE, steps_in
from flaxformer_lite.checkpoints.restore_params import raise_damaged
from flaxformer_lite.checkpoints.storage import first_intact, open_reader, read, silence_orbax, write
from flaxformer_lite.config.dataclasses import TrainConfig
from flaxformer_lite.errors import InputError, write_errors_named


def save_average(folder: Path, last: int, config: TrainConfig, like: Any) -> list[int]:
    """Saves the mean of the parameters of the last checkpoints beside them, and removes an earlier mean.

    Sums are in float64 and rounded once. The parameters themselves are averaged, also where the run keeps a moving
    average of them. Training in the same directory ignores the mean. Returns the steps of the averaged checkpoints; an
    old best checkpoint after which others were saved and removed does not count. ``like`` has the parameters as
    ``jax.ShapeDtypeStruct`` with shardings, to which one checkpoint at a time is restored.

    Raises:
      InputError: there are fewer consecutive checkpoints, or one of them is damaged.
    """
    sums = [np.zeros(leaf.shape, np.float64) for leaf in jax.tree.leaves(like)]
    with open_reader(folder) as manager:
        there = steps_in(folder)[::-1]
        steps = _in_a_row(there, config)[-last:]
        if len(steps) < last:
            raise InputError(
                f"last={last}",
                f"the last consecutive checkpoints are those of steps {steps} (config.train.keep_latest="
                f"{config.keep_latest}; {folder} has {there})",
                f"ask for fewer, or train with config.train.keep_latest={last}",
            )
        for step in steps:
            found = first_intact([step], partial(read, manager, {"params": like}), partial(raise_damaged, folder))
            assert found, "refused otherwise"
            for total, leaf in zip(sums, jax.tree.leaves(found[1].parts["params"]), strict=True):
                total += np.asarray(jax.device_get(leaf), np.float64)
    means = [jnp.asarray(x / last, leaf.dtype) for x, leaf in zip(sums, jax.tree.leaves(like), strict=True)]
    mean = jax.tree.unflatten(jax.tree.structure(like), means)
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    place = (folder / AVERAGE).absolute()
    with silence_orbax(), write_errors_named(folder), ocp.CheckpointManager(place, options=options) as manager:
        # With a new number, so that the previous mean exists until this one is complete.
        write(manager, (manager.latest_step() or 0) + 1, {"params": mean}, {"steps": steps})
    return steps


def _in_a_row(steps: Sequence[int], config: TrainConfig) -> list[int]:
    """The last of these steps between which a run saves no others; an old best checkpoint may be far before them."""
    row = list(steps[-1:])
    for step in reversed(steps[:-1]):
        following = min((step // every + 1) * every for every in (config.save_every, config.eval_every))
        if following < row[0]:
            break
        row.insert(0, step)
    return row
