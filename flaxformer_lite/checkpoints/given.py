"""A checkpoint of parameters that no run of ours has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from flaxformer_lite.checkpoints.stored import quiet_orbax, write
from flaxformer_lite.errors import full_disk_named


def save_params(folder: Path, params: Any) -> None:
    """Writes parameters as the checkpoint of step 0, whole when this returns; nothing to train on from is beside them.

    Args:
      folder: of the checkpoints; it is made.
      params: the parameter tree, of arrays of any kind.
    """
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    with quiet_orbax(), full_disk_named(folder), ocp.CheckpointManager(folder.absolute(), options=options) as manager:
        write(manager, 0, {"params": params}, {"data": {}, "history": [], "sums": []})
