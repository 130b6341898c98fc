"""Traces and compiles the training step of a config from shapes alone, for devices that need not exist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.monitoring.flops import count_flops
from flaxformer_lite.plan.data_sizes import DataSizes
from flaxformer_lite.plan.hlo import Program, read_program
from flaxformer_lite.plan.matmuls import Matmul, read_matmuls
from flaxformer_lite.sharding.layout import check_batch_size
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.train_step.objective import Objective
from flaxformer_lite.train_step.state import TrainState
from flaxformer_lite.training.setup import make_training
from flaxformer_lite.types import Batch, Tokens

# The machine code is never run. Neither option changes the instructions of the program or its use of memory.
_FAST_COMPILATION = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class TracedStep(NamedTuple):
    """A traced training step.

    Attributes:
      state: shapes and shardings of the train state.
      batch: shapes and shardings of a batch.
      flops: of matrix products on all devices, by dtype.
      objective: the training objective.
      traced: the step, to be lowered and compiled.
    """

    state: TrainState
    batch: Batch
    flops: Counter[str]
    objective: Objective
    traced: Any


class CompiledStep(NamedTuple):
    """A compiled training step of one device.

    Attributes:
      program: its instructions.
      matmuls: its matrix products.
      output_bytes: results that do not reuse an argument's memory.
      temp_bytes: gradients, activations and copies.
    """

    program: Program
    matmuls: Sequence[Matmul]
    output_bytes: int
    temp_bytes: int


def make_plan_layout(config: Config, devices: Sequence[Any]) -> MeshLayout:
    """The mesh layout of a run on these devices; for ``pmap`` the equivalent data-parallel one.

    Raises:
      InputError: the mesh does not fit the devices, or the batch does not fit the mesh.
    """
    layout = MeshLayout(config.mesh, config.logical_axis_rules, devices)
    check_batch_size(config, layout)
    return layout


def trace_step(config: Config, sizes: DataSizes, layout: MeshLayout) -> TracedStep:
    """Traces the training step without teachers of distillation.

    Raises:
      InputError: a parameter cannot be divided by the mesh.
    """
    training = make_training(config, make_model(config, sizes.source_vocabulary, sizes.target_vocabulary), [])
    state = layout.shapes(training.init_state)
    batch = _largest_batch(config.train.batch_size, sizes, layout)
    step: Any = layout.compile(training.step, jax.random.key(config.seed + 1), state)
    traced = step.trace((), state, batch)
    return TracedStep(state, batch, count_flops(traced.jaxpr), training.step.objective, traced)


def _largest_batch(batch_size: int, sizes: DataSizes, layout: MeshLayout) -> Batch:
    def array(length: int, dtype: Any = jnp.int32) -> Any:
        return jax.ShapeDtypeStruct((batch_size, length), dtype)

    source, target = (Tokens(*[array(length)] * 3) for length in (sizes.source_length, sizes.target_length))
    return layout.batch_shapes(
        Batch(source, target, array(sizes.target_length), array(sizes.target_length, jnp.float32))
    )


def compile_step(traced: TracedStep) -> CompiledStep:
    """Compiles a traced step, which takes seconds to minutes but no memory of the model's size."""
    compiled = traced.traced.lower().compile(compiler_options=_FAST_COMPILATION)
    program = read_program(compiled.as_text())
    memory = compiled.memory_analysis()
    return CompiledStep(
        program,
        read_matmuls(program),
        output_bytes=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temp_bytes=memory.temp_size_in_bytes,
    )
