"""The plan of a run: what each device will hold, compute and say to others, and how long that takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.monitoring.chips import Chip
from flaxformer_lite.monitoring.mfu import gradient_flops
from flaxformer_lite.plan.arrays import Parameter, bytes_per_device, read_parameters
from flaxformer_lite.plan.collectives import Collective, read_collectives
from flaxformer_lite.plan.programs import compile_step, make_plan_layout, make_plan_training, trace_step
from flaxformer_lite.plan.roofline import Roofline, predict
from flaxformer_lite.plan.sizes import Sizes

USABLE = 0.9  # of a chip's memory; the rest is the runtime's, and what lies between arrays


@dataclass(frozen=True)
class Memory:
    """Bytes of each device.

    Attributes:
      weights: the parameters.
      optimizer: its moments.
      average: of the moving average of the parameters.
      batch: the largest one's rows.
      gradients: as large as the parameters.
      activations: all else that the step holds at its worst moment, as the CPU's compiler orders it (an estimate).
    """

    weights: int
    optimizer: int
    average: int
    batch: int
    gradients: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(dataclasses.astuple(self))


@dataclass(frozen=True)
class Work:
    """Floating-point operations of the matrix products of a step.

    Attributes:
      model: what the model and its gradient need, over all devices.
      program: the same with what is computed again to save memory (``model.remat``).
      device: of each device. More than its share of ``program`` if several devices compute the same.
      dtype: of most factors.
    """

    model: int
    program: int
    device: int
    dtype: str


@dataclass(frozen=True)
class Plan:
    """All that is predicted of a run.

    Attributes:
      devices: how many.
      mesh: sizes of its axes by name.
      chip: what each device is.
      rows: of a batch, over all devices.
      accumulate: parts that they are computed in.
      remat: what is computed again.
      steps: of the run.
      sizes: of the data.
      parameters: of the model.
      memory: of each device.
      work: of a step.
      collectives: of a step.
      roofline: of a step.
      endless: loops of the program whose rounds nobody knows; what is in them counts once.
    """

    devices: int
    mesh: dict[str, int]
    chip: Chip
    rows: int
    accumulate: int
    remat: str
    steps: int
    sizes: Sizes
    parameters: list[Parameter]
    memory: Memory
    work: Work
    collectives: list[Collective]
    roofline: Roofline
    endless: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the chip's memory holds it."""
        return self.memory.total <= USABLE * self.chip.memory

    @property
    def tokens_per_second(self) -> float:
        """Target tokens, padding included, of all devices."""
        return self.rows * self.sizes.target_length / self.roofline.step

    @property
    def mfu(self) -> float:
        """Model FLOPs utilization (Chowdhery et al. 2022, appendix B): what the model needs over the chips' peak."""
        return self.work.model / (self.roofline.step * self.devices * self.chip.peak(self.work.dtype))

    @property
    def device_hours(self) -> float:
        """Of the run, its batches as large as the mean one."""
        return self.steps * self.roofline.step * self.sizes.mean * self.devices / 3600


def make_plan(config: Config, sizes: Sizes, chip: Chip, devices: Sequence[Any]) -> Plan:
    """Traces and compiles the step for these devices, which may be fake, and reads off what it needs.

    Raises:
      InputError: the mesh does not fit the devices, the batch or a parameter.
    """
    layout = make_plan_layout(config, devices)
    traced = trace_step(config, sizes, layout)
    objective = make_plan_training(config, sizes).step.objective
    needed = gradient_flops(objective, traced.state.params, (), traced.batch, config.train.batch_size)
    compiled = compile_step(traced)
    mesh = dict(layout.mesh.shape)
    collectives = read_collectives(compiled.program, mesh, chip.node)
    state, parameters = traced.state, read_parameters(traced.state.params)
    weights = bytes_per_device(state.params)
    memory = Memory(
        weights=weights,
        optimizer=bytes_per_device(state.opt_state),
        average=bytes_per_device(state.ema),
        batch=bytes_per_device(traced.batch),
        gradients=weights,
        activations=max(compiled.temporary + compiled.results - weights, 0),
    )
    dtype = max(traced.flops, key=lambda of: traced.flops[of])
    work = Work(
        model=needed.total(),
        program=traced.flops.total(),
        device=sum(product.flops * product.runs for product in compiled.products),
        dtype=dtype,
    )
    kept = memory.weights + memory.optimizer + memory.average
    return Plan(
        devices=len(devices),
        mesh=mesh,
        chip=chip,
        rows=config.train.batch_size,
        accumulate=config.train.grad_accum_steps,
        remat=config.model.remat,
        steps=config.train.steps,
        sizes=sizes,
        parameters=parameters,
        memory=memory,
        work=work,
        collectives=collectives,
        roofline=predict(compiled.products, kept, collectives, chip, dtype),
        endless=compiled.program.endless,
    )
