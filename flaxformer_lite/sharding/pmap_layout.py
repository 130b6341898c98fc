"""Plain data parallelism by ``pmap``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxformer_lite.config.dataclasses import MeshConfig
from flaxformer_lite.sharding.mesh_layout import AXES, MeshLayout, StepFn


class PmapLayout:
    """``pmap``: each device holds the whole state and a shard of the rows.

    Each device draws its own dropout masks, so with dropout a run differs from the same run under ``jit``; without
    dropout the losses are equal.
    """

    def __init__(self):
        self.num_batch_shards = jax.device_count()
        self.process_shard = jax.process_index(), jax.process_count()
        self.mesh_layout = MeshLayout(MeshConfig(data=-1, fsdp=1, tensor=1))
        self._devices = jax.local_devices()
        self._per_device = NamedSharding(Mesh(np.asarray(self._devices), AXES[:1]), PartitionSpec(AXES[0]))

    def shapes(self, make_state: Callable[[], Any]) -> Any:
        return self.mesh_layout.replicated_shapes(nn.meta.unbox(jax.eval_shape(make_state)))

    def init(self, make_state: Callable[[], Any]) -> Any:
        return self.to_layout(jax.jit(lambda: nn.meta.unbox(make_state()))())

    def compile(self, step: StepFn, key: jax.Array, shapes: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
        def shard_step(constants: Any, state: Any, batch: Any) -> Any:
            return step(constants, state, batch, key, AXES[0])

        parallel = jax.pmap(shard_step, axis_name=AXES[0], donate_argnums=1)

        def step_with_first_results(constants: Any, state: Any, batch: Any) -> tuple[Any, Any]:
            state, results = parallel(constants, state, batch)
            return state, jax.tree.map(lambda x: x.addressable_shards[0].data[0], results)

        return step_with_first_results

    def shard_batch(self, batch: Any) -> Any:
        """Adds a leading axis of devices."""
        count = len(self._devices)
        shards = jax.tree.map(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), batch)
        return jax.device_put(shards, self._per_device)

    def to_global(self, state: Any) -> Any:
        replicated = NamedSharding(self.mesh_layout.mesh, PartitionSpec())

        def join(x: jax.Array) -> jax.Array:
            copies = [shard.data.reshape(x.shape[1:]) for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(x.shape[1:], replicated, copies)

        return jax.tree.map(join, state)

    def to_layout(self, state: Any) -> Any:
        """A copy for each device."""
        count = len(self._devices)
        copies = jax.tree.map(lambda x: np.broadcast_to(np.asarray(x)[None], (count, *x.shape)), state)
        return jax.device_put(copies, self._per_device)
