"""Device mesh; no other module uses the names of its axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from flaxformer_lite.config.dataclasses import LogicalAxisRulesConfig, MeshConfig
from flaxformer_lite.errors import InputError

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))  # rows of a batch; all devices along "tensor" hold the same rows
_NO_RULES: dict[str, Any] = {field.name: "none" for field in dataclasses.fields(LogicalAxisRulesConfig)}
REPLICATED = LogicalAxisRulesConfig(**_NO_RULES)

# (constants, state, batch, key, axis_name) → (state, results), as train_step.step.TrainStep. ``axis_name`` is None
# where arrays are global, otherwise the mapped axis over which each device holds its own rows.
StepFn = Callable[..., tuple[Any, Any]]


class MeshLayout:
    """``jit`` over a mesh (data, fsdp, tensor): rows are divided by data and fsdp, parameters by the rules.

    Args:
      config: the sizes of the mesh.
      rules: the mesh axis that divides each logical axis of a parameter.
      devices: the devices of the mesh; all devices by default.
    """

    def __init__(self, config: MeshConfig, rules: LogicalAxisRulesConfig = REPLICATED, devices: Sequence[Any] = ()):
        devices = devices or jax.devices()
        sizes = mesh_sizes(config, len(devices))
        self.mesh = Mesh(np.asarray(devices).reshape(sizes), AXES)
        self.num_batch_shards = sizes[0] * sizes[1]
        rows = self.mesh.devices.reshape(self.num_batch_shards, -1)
        processes = [[device.process_index for device in row] for row in rows]
        self.process_shard = process_shard_of(np.array(processes), jax.process_index())
        self.mesh_layout = self
        self._rules = {axis: None if rule == "none" else rule for axis, rule in dataclasses.asdict(rules).items()}
        self._rows = NamedSharding(self.mesh, BATCH)
        self._replicated = NamedSharding(self.mesh, PartitionSpec())

    def shapes(self, make_state: Callable[[], Any]) -> Any:
        boxed = jax.eval_shape(make_state)
        return jax.tree.map_with_path(
            lambda path, axes, array: jax.ShapeDtypeStruct(
                array.shape,
                array.dtype,
                sharding=NamedSharding(self.mesh, self._spec(jax.tree_util.keystr(path), axes, array.shape)),
            ),
            nn.get_partition_spec(boxed),
            nn.meta.unbox(boxed),
            is_leaf=lambda x: isinstance(x, PartitionSpec),
        )

    def init(self, make_state: Callable[[], Any]) -> Any:
        """Creates each array with its sharding; no device ever holds the whole state."""
        shardings = jax.tree.map(lambda array: array.sharding, self.shapes(make_state))
        return jax.jit(lambda: nn.meta.unbox(make_state()), out_shardings=shardings)()

    def compile(self, step: StepFn, key: jax.Array, shapes: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
        shardings = jax.tree.map(lambda array: array.sharding, shapes)

        def global_step(constants: Any, state: Any, batch: Any) -> Any:
            # The models name logical axes of activations; these rules map them to mesh axes.
            with (
                jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh),
                nn.logical_axis_rules(self._activation_rules()),
            ):
                return step(constants, state, batch, key, None)

        # Explicit output shardings: a state from an update, a checkpoint or init has equal ones, so one program serves.
        return jax.jit(global_step, donate_argnums=1, out_shardings=(shardings, None))

    def round_up_rows(self, minimum: int) -> int:
        """The smallest number of rows, at least ``minimum``, that is a multiple of ``num_batch_shards``."""
        return -(-minimum // self.num_batch_shards) * self.num_batch_shards

    def shard_batch(self, batch: Any) -> Any:
        with jax.transfer_guard("allow"):  # jax counts the rows of several processes as implicit transfers
            return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self._rows, x), batch)

    def batch_shapes(self, batch: Any) -> Any:
        """``jax.ShapeDtypeStruct`` with sharding of each array of ``shard_batch(batch)``."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._rows), batch)

    def shard_replicated_batch(self, batch: Any) -> Any:
        """Shards a batch of which every process has all rows."""
        part, parts = self.process_shard
        own = jax.tree.map(lambda x: x[len(x) * part // parts : len(x) * (part + 1) // parts], batch)
        return self.shard_batch(own)

    def fetch(self, results: Any) -> Any:
        """Arrays on devices as whole NumPy arrays, on every process."""
        if not all(x.is_fully_addressable or x.is_fully_replicated for x in jax.tree.leaves(results)):
            results = self.replicate(results)
        return jax.device_get(results)

    def to_global(self, state: Any) -> Any:
        return state

    def to_layout(self, state: Any) -> Any:
        return state

    def replicate(self, tree: Any) -> Any:
        """A copy on every device."""
        return jax.device_put(tree, self._replicated)

    def replicated_shapes(self, shapes: Any) -> Any:
        """``jax.ShapeDtypeStruct`` with sharding of each array of ``replicate(tree)``."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._replicated), shapes)

    def _activation_rules(self) -> list[tuple[str, Any]]:
        """The mesh axes of the logical axes of activations: rows as in a batch, all others as in parameters.

        A mesh axis that divides rows divides no other axis, so a parameter divided by it is gathered where it is used.
        """
        of_rows = BATCH[0]
        others = [(axis, rule) for axis, rule in self._rules.items() if rule not in of_rows]
        return [("batch", of_rows), *others]

    def _spec(self, name: str, logical: PartitionSpec, shape: tuple[int, ...]) -> PartitionSpec:
        # Not nn.logical_to_mesh_sharding: it replicates the second of two equal mesh axes without an error.
        axes = [self._rules[axis] if axis is not None else None for axis in logical]
        used = [axis for axis in axes if axis is not None]
        if len(set(used)) < len(used):
            raise InputError(
                f"{name} with axes {tuple(logical)}",
                f"config.logical_axis_rules divides two of them by one mesh axis, {axes}",
                "set one of them to 'none'",
            )
        for axis, mesh_axis, size in zip(logical, axes, shape, strict=False):
            if mesh_axis is not None and size % self.mesh.shape[mesh_axis]:
                raise InputError(
                    name,
                    f"its axis {axis!r} of size {size} cannot be divided by config.mesh.{mesh_axis}="
                    f"{self.mesh.shape[mesh_axis]}",
                    f"set that to a divisor of {size}, or config.logical_axis_rules.{axis} to 'none'",
                )
        return PartitionSpec(*axes)


def process_shard_of(processes: Int[np.ndarray, "shards copies"], own: int) -> tuple[int, int]:
    """The part of a batch's rows that a process holds: (i, n), the i-th of n equal parts.

    Args:
      processes: the process of each device, by shard of the rows.
      own: the index of the process.

    Raises:
      InputError: the processes' devices do not hold equal parts of contiguous shards.
    """
    held = {process: np.flatnonzero((processes == process).any(axis=1)) for process in np.unique(processes)}
    size = len(held[own])
    for shards in held.values():
        if len(shards) != size or shards[0] % size or shards[-1] - shards[0] != size - 1:
            raise InputError(
                f"config.mesh.{AXES[2]}={processes.shape[1]}",
                f"{len(held)} processes cannot divide the rows of a batch evenly",
                f"set it to a divisor or a multiple of the {processes.size // len(held)} devices of each process",
            )
    return int(held[own][0]) // size, len(processes) // size


def mesh_sizes(config: MeshConfig, devices: int) -> tuple[int, int, int]:
    """The sizes of the mesh axes, with the size -1 inferred from the number of devices.

    Raises:
      InputError: the sizes do not multiply to the number of devices.
    """
    sizes = [config.data, config.fsdp, config.tensor]
    if -1 in sizes:
        others = -int(np.prod(sizes))
        sizes[sizes.index(-1)] = max(devices // others, 1)
    if np.prod(sizes) != devices:
        named = ", ".join(f"config.mesh.{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))
        raise InputError(named, f"make a mesh of {int(np.prod(sizes))} devices, but there are {devices}")
    return sizes[0], sizes[1], sizes[2]
