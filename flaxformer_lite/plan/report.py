"""Predicted memory, FLOPs, communication and time of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.monitoring.chips import Chip
from flaxformer_lite.monitoring.utilization import gradient_flops
from flaxformer_lite.plan.collectives import Collective, read_collectives
from flaxformer_lite.plan.compile_step import compile_step, make_plan_layout, trace_step
from flaxformer_lite.plan.data_sizes import DataSizes
from flaxformer_lite.plan.parameter_shards import ParameterShards, bytes_per_device, list_parameters
from flaxformer_lite.plan.roofline import Roofline, estimate_roofline

USABLE_MEMORY = 0.9  # fraction of a chip's memory; the rest is lost to the runtime and to fragmentation


@dataclass(frozen=True)
class MemoryUsage:
    """Bytes per device.

    Attributes:
      params: parameters.
      opt_state: moments of the optimizer.
      ema: moving average of the parameters.
      batch: rows of the largest batch.
      gradients: as large as the parameters.
      activations: all other memory at the step's peak, with the instruction order of the CPU compiler (an estimate).
    """

    params: int
    opt_state: int
    ema: int
    batch: int
    gradients: int
    activations: int

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self))


@dataclass(frozen=True)
class StepFlops:
    """Floating-point operations of the matrix products of a step.

    Attributes:
      model: forward and backward pass, on all devices.
      program: the same with rematerialization (``model.remat``).
      device: of each device; more than its share of ``program`` if devices compute the same products.
      dtype: of most factors.
    """

    model: int
    program: int
    device: int
    dtype: str


@dataclass(frozen=True)
class PlanReport:
    """Prediction for a run.

    Attributes:
      devices: number of devices.
      mesh: sizes of its axes by name.
      chip: type of the devices.
      batch_size: rows of a batch on all devices.
      grad_accum_steps: number of microbatches of a batch.
      remat: rematerialization policy.
      steps: of the run.
      sizes: of the data.
      parameters: of the model.
      memory: per device.
      flops: of a step.
      collectives: of a step.
      roofline: of a step.
      unbounded_loops: loops of the program with an unknown number of iterations; their bodies are counted once.
    """

    devices: int
    mesh: dict[str, int]
    chip: Chip
    batch_size: int
    grad_accum_steps: int
    remat: str
    steps: int
    sizes: DataSizes
    parameters: list[ParameterShards]
    memory: MemoryUsage
    flops: StepFlops
    collectives: list[Collective]
    roofline: Roofline
    unbounded_loops: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the memory of the chip suffices."""
        return self.memory.total <= USABLE_MEMORY * self.chip.memory

    @property
    def tokens_per_second(self) -> float:
        """Target tokens on all devices, padding included."""
        return self.batch_size * self.sizes.target_length / self.roofline.step

    @property
    def mfu(self) -> float:
        """Model FLOPs utilization (Chowdhery et al. 2022, appendix B): FLOPs of the model over the chips' peak."""
        return self.flops.model / (self.roofline.step * self.devices * self.chip.peak(self.flops.dtype))

    @property
    def device_hours(self) -> float:
        """Of the whole run, with batches of the mean size."""
        return self.steps * self.roofline.step * self.sizes.mean * self.devices / 3600


def make_report(config: Config, sizes: DataSizes, chip: Chip, devices: Sequence[Any]) -> PlanReport:
    """Traces and compiles the training step for these devices, which may be fake CPU devices, and analyzes it.

    Raises:
      InputError: the mesh does not fit the devices, the batch or a parameter.
    """
    layout = make_plan_layout(config, devices)
    traced = trace_step(config, sizes, layout)
    state = traced.state
    model_flops = gradient_flops(traced.objective, state.params, (), traced.batch, config.train.batch_size)
    compiled = compile_step(traced)
    mesh = dict(layout.mesh.shape)
    collectives = read_collectives(compiled.program, mesh, chip.node)
    params = bytes_per_device(state.params)
    memory = MemoryUsage(
        params=params,
        opt_state=bytes_per_device(state.opt_state),
        ema=bytes_per_device(state.ema),
        batch=bytes_per_device(traced.batch),
        gradients=params,
        activations=max(compiled.temp_bytes + compiled.output_bytes - params, 0),
    )
    dtype = max(traced.flops, key=lambda of: traced.flops[of])
    flops = StepFlops(
        model=model_flops.total(),
        program=traced.flops.total(),
        device=sum(matmul.flops * matmul.runs for matmul in compiled.matmuls),
        dtype=dtype,
    )
    state_bytes = memory.params + memory.opt_state + memory.ema
    return PlanReport(
        devices=len(devices),
        mesh=mesh,
        chip=chip,
        batch_size=config.train.batch_size,
        grad_accum_steps=config.train.grad_accum_steps,
        remat=config.model.remat,
        steps=config.train.steps,
        sizes=sizes,
        parameters=list_parameters(state.params),
        memory=memory,
        flops=flops,
        collectives=collectives,
        roofline=estimate_roofline(compiled.matmuls, state_bytes, collectives, chip, dtype),
        unbounded_loops=compiled.program.unbounded_loops,
    )
