"""A checkpoint of parameters that no run of ours has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from flaxformer_lite.checkpoints.format import quiet_orbax, write
from flaxformer_lite.errors import write_errors_named


def save_params(folder: Path, params: Any) -> None:
    """Writes parameters as the checkpoint of step 0, whole when this returns; nothing to train on from is beside them.

    Args:
      folder: of the checkpoints; it is made.
      params: the parameter tree.
    """
    # Each array is copied to be written. By default that is all of them at once.
    copied = max(1.01 * max(leaf.nbytes for leaf in jax.tree.leaves(params)), 2**24)
    handlers = {
        "params": ocp.StandardCheckpointHandler(save_concurrent_gb=copied / 10**9),  # pyright: ignore[reportArgumentType]
        "run": ocp.JsonCheckpointHandler(),
    }
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    place = folder.absolute()
    with (
        quiet_orbax(),
        write_errors_named(folder),
        ocp.CheckpointManager(place, options=options, item_handlers=handlers) as manager,
    ):
        write(manager, 0, {"params": params}, {"data": {}, "history": [], "sums": []})
