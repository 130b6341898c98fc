"""Device layouts: one program on many devices, by ``jit`` over a mesh or by ``pmap``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import require
from flaxformer_lite.sharding.mesh_layout import MeshLayout, StepFn
from flaxformer_lite.sharding.pmap_layout import PmapLayout


@runtime_checkable  # for the tests' run-time type checks
class Layout(Protocol):
    """How state and batches are distributed over the devices.

    Attributes:
      num_batch_shards: shards that the rows of a batch are divided into; batch sizes are multiples of it.
      process_shard: (i, n): this process's devices hold part i of n equal parts of a batch's rows.
      mesh_layout: the layout of the arrays that ``to_global`` returns.
    """

    num_batch_shards: int
    process_shard: tuple[int, int]
    mesh_layout: MeshLayout

    def shapes(self, make_state: Callable[[], Any]) -> Any:
        """``jax.ShapeDtypeStruct`` with sharding of each array of ``to_global(init(make_state))``; nothing is made."""
        ...

    def init(self, make_state: Callable[[], Any]) -> Any:
        """Creates the state on the devices, in this layout."""
        ...

    def compile(self, step: StepFn, key: jax.Array, shapes: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
        """The step as a function of (constants, state, batch), for a state of these ``shapes``; it donates the state.

        ``constants`` are arrays that the step reads and never changes. They and the state are in this layout
        (``to_layout``), the batch as ``shard_batch`` returns it.
        """
        ...

    def shard_batch(self, batch: Any) -> Any:
        """Moves this process's rows of a batch (NumPy arrays) to its devices."""
        ...

    def to_global(self, state: Any) -> Any:
        """The state as global arrays of ``mesh_layout``, which checkpoints and evaluation use."""
        ...

    def to_layout(self, state: Any) -> Any:
        """The inverse of ``to_global``."""
        ...


def make_layout(config: Config) -> Layout:
    """The layout that ``parallel.mode`` names, over all devices."""
    layout = PmapLayout() if config.parallel.mode == "pmap" else MeshLayout(config.mesh, config.logical_axis_rules)
    check_batch_size(config, layout)
    return layout


def check_batch_size(config: Config, layout: Layout) -> None:
    """Raises ``InputError`` where the rows of a batch cannot be divided evenly."""
    parts = config.train.grad_accum_steps
    key = "rows_multiple" if config.train.tokens_per_batch else "batch_size"
    rows = getattr(config.train, key)
    multiple = layout.num_batch_shards * parts
    in_parts = f", each in config.train.grad_accum_steps={parts} parts" * (parts > 1)
    require(
        rows % multiple == 0,
        f"config.train.{key}={rows}",
        f"must be a multiple of {multiple}: {layout.num_batch_shards} shards of a batch (config.mesh.data times "
        f"config.mesh.fsdp){in_parts}",
    )
