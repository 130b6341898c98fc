"""Model FLOPs utilization (MFU), peak memory and the time that a step waits for data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.buckets import batch_rows
from flaxformer_lite.monitoring.chips import chip_of
from flaxformer_lite.monitoring.flops import count_flops
from flaxformer_lite.train_step.objective import Objective
from flaxformer_lite.types import Batch


class StepTiming(NamedTuple):
    """Times of one update, or their sums over several.

    Attributes:
      data_wait: seconds that the host waited for data.
      at_peak: seconds that model and gradient take with all devices at peak performance; 0 where that is unknown.
    """

    data_wait: float = 0.0
    at_peak: float = 0.0


class TokenCounts(NamedTuple):
    """Source and target tokens of a batch on this process, or their sums over several batches.

    Attributes:
      tokens: without padding.
      positions: with padding.
    """

    tokens: float
    positions: float


def count_tokens(batch: Batch) -> TokenCounts:
    """Counts the tokens of this process's rows."""
    sides = batch.source.segments, batch.target_in.segments
    return TokenCounts(sum(int(np.count_nonzero(side)) for side in sides), sum(side.size for side in sides))


class PeakTime:
    """Seconds that a batch takes at peak performance; its FLOPs are counted once for each shape.

    Args:
      objective: of the run.
      params: its parameters, or their shapes.
      teacher_params: those of its teachers.
      config: of the run.
    """

    def __init__(self, objective: Objective, params: Any, teacher_params: Sequence[Any], config: Config):
        self._objective = objective
        self._params, self._teacher_params = (_shapes(tree) for tree in (params, teacher_params))
        self._rows_of = partial(batch_rows, config.train)
        self._peak = peak_flops(config.precision.dtype)
        self._seconds: dict[tuple[tuple[int, ...], ...], float] = {}

    def __call__(self, batch: Batch) -> float:
        """Seconds of the whole batch, of which these are the rows of any one process; 0 where the peak is unknown."""
        if not self._peak:
            return 0.0
        shapes = tuple(leaf.shape[1:] for leaf in jax.tree.leaves(batch))
        if shapes not in self._seconds:
            rows = self._rows_of((batch.source.ids.shape[1], batch.labels.shape[1]))
            flops = gradient_flops(self._objective, self._params, self._teacher_params, batch, rows)
            self._seconds[shapes] = flops.total() / self._peak
        return self._seconds[shapes]


def gradient_flops(objective: Objective, params: Any, teacher_params: Any, batch: Batch, rows: int) -> Counter[str]:
    """FLOPs of ``objective.loss_fn`` and its gradient, without rematerialization, by dtype of the factors.

    Nothing is computed: shapes suffice, and ``rows`` replaces the number of rows of ``batch``.
    """
    loss_fn = objective.without_remat().loss_fn

    def gradient(params: Any, teacher_params: Any, batch: Batch, key: Any) -> Any:
        return jax.grad(lambda params: loss_fn(params, teacher_params, batch, key).objective)(params)

    whole = jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), batch)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return count_flops(jax.make_jaxpr(gradient)(params, teacher_params, whole, key))


def peak_flops(dtype: str) -> float:
    """Peak FLOP/s of all devices together in this dtype; 0 where it is unknown."""
    chip = chip_of(jax.devices()[0].device_kind)
    return chip.peak(dtype) * jax.device_count() if chip else 0.0


def peak_memory() -> int:
    """The most bytes in use so far on one of this process's devices; 0 where the runtime does not report it."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max(of_one.get("peak_bytes_in_use", 0) for of_one in stats)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
