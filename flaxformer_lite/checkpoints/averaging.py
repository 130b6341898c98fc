"""The mean of a run's last checkpoints, kept among them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from flaxformer_lite.checkpoints.format import first_intact, open_reader, read, silence_orbax, write
from flaxformer_lite.checkpoints.listing import AVERAGE, steps_in
from flaxformer_lite.checkpoints.restoring import raise_damaged
from flaxformer_lite.config.dataclasses import TrainConfig
from flaxformer_lite.errors import InputError, write_errors_named


def save_average(folder: Path, last: int, config: TrainConfig, like: Any) -> list[int]:
    """Keeps the mean of the parameters of the last checkpoints beside them, in place of an earlier mean.

    They are added up in float64 and rounded once. It is the parameters themselves, also where the run keeps a moving
    average of them. Training in the same folder neither sees the mean nor removes it.

    Args:
      folder: the checkpoints of a run.
      last: how many. Those that the run keeps for being its best do not count, where others were saved after them.
      config: by which the run saves.
      like: parameters as ``jax.ShapeDtypeStruct`` with shardings: where one checkpoint at a time is read to.

    Returns:
      The steps that went in.

    Raises:
      InputError: there are not so many in a row, or one of them is damaged.
    """
    sums = [np.zeros(leaf.shape, np.float64) for leaf in jax.tree.leaves(like)]
    with open_reader(folder) as manager:
        there = steps_in(folder)[::-1]
        steps = _in_a_row(there, config)[-last:]
        if len(steps) < last:
            raise InputError(
                f"--last={last}: the last checkpoints without a gap are those of steps {steps} (config.train."
                f"keep_latest={config.keep_latest}; {folder} has {there}); ask for fewer, or train with config.train."
                f"keep_latest={last}"
            )
        for step in steps:
            found = first_intact([step], partial(read, manager, {"params": like}), partial(raise_damaged, folder))
            assert found, "or it was refused"
            for total, leaf in zip(sums, jax.tree.leaves(found[1].parts["params"]), strict=True):
                total += np.asarray(jax.device_get(leaf), np.float64)
    means = [jnp.asarray(x / last, leaf.dtype) for x, leaf in zip(sums, jax.tree.leaves(like), strict=True)]
    mean = jax.tree.unflatten(jax.tree.structure(like), means)
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    place = (folder / AVERAGE).absolute()
    with silence_orbax(), write_errors_named(folder), ocp.CheckpointManager(place, options=options) as manager:
        # Under a number of its own, so that the last one is there until this one is whole.
        write(manager, (manager.latest_step() or 0) + 1, {"params": mean}, {"steps": steps})
    return steps


def _in_a_row(steps: Sequence[int], config: TrainConfig) -> list[int]:
    """The last of these steps between which a run saves no other; what stays for being the best may lie far before."""
    row = list(steps[-1:])
    for step in reversed(steps[:-1]):
        following = min((step // every + 1) * every for every in (config.save_every, config.eval_every))
        if following < row[0]:
            break
        row.insert(0, step)
    return row
