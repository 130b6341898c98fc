"""What a run makes of its devices: the work that its model needs, their memory, and the time they wait for data."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.plan.chips import chip_of
from flaxformer_lite.plan.flops import count_flops
from flaxformer_lite.train_step.objective import Objective


class StepTiming(NamedTuple):
    """Of one update, or the sum over several.

    Attributes:
      waiting: seconds that the host waited for data.
      at_best: seconds that the model and its gradient would take all devices at their peak; 0 where nobody knows it.
    """

    waiting: float = 0.0
    at_best: float = 0.0


class PeakFlops:
    """How fast the devices could be at most: what a batch needs is counted once for each shape, nothing is computed.

    Args:
      objective: what is differentiated, with nothing computed again to save memory.
      params: its parameters, or their shapes.
      teachers: those of its teachers.
      config: of the run.
    """

    def __init__(self, objective: Objective, params: Any, teachers: Any, config: Config):
        self._objective = objective
        self._params, self._teachers = (_shapes(tree) for tree in (params, teachers))
        self._rows = config.train.batch_size
        self._peak = peak_flops(config.precision.dtype)
        self._seconds: dict[tuple[tuple[int, ...], ...], float] = {}

    def __call__(self, batch: Any) -> float:
        """Seconds of the whole batch that these rows, of any one process, belong to."""
        if not self._peak:
            return 0.0
        shapes = tuple(leaf.shape[1:] for leaf in jax.tree.leaves(batch))
        if shapes not in self._seconds:
            self._seconds[shapes] = self._count(batch) / self._peak
        return self._seconds[shapes]

    def _count(self, batch: Any) -> int:
        def gradient(params: Any, teachers: Any, batch: Any, key: Any) -> Any:
            return jax.grad(lambda params: self._objective(params, teachers, batch, key).objective)(params)

        whole = jax.tree.map(lambda x: jax.ShapeDtypeStruct((self._rows, *x.shape[1:]), x.dtype), batch)
        key = jax.eval_shape(lambda: jax.random.key(0))
        return count_flops(jax.make_jaxpr(gradient)(self._params, self._teachers, whole, key)).total()


def peak_flops(dtype: str) -> float:
    """FLOP/s that all devices together could do in this dtype; 0 where nobody knows."""
    chip = chip_of(jax.devices()[0].device_kind)
    return chip.peak(dtype) * jax.device_count() if chip else 0.0


def peak_memory() -> int:
    """The most bytes that one of this process's devices has had in use; 0 where devices do not tell."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max(of_one.get("peak_bytes_in_use", 0) for of_one in stats)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
