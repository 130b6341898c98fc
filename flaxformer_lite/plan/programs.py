"""The training step of a config, compiled for devices that need not be there, of shapes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.monitoring.flops import count_flops
from flaxformer_lite.plan.flops import Product, read_products
from flaxformer_lite.plan.hlo import Program, read_program
from flaxformer_lite.plan.sizes import Sizes
from flaxformer_lite.sharding.layout import check_batch_size
from flaxformer_lite.sharding.mesh import MeshLayout
from flaxformer_lite.train_step.state import TrainState
from flaxformer_lite.training.setup import Training, make_training
from flaxformer_lite.types import Batch, Tokens

# Machine code that nobody runs need not be fast. Neither option changes what the program does or where it lies.
_QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Traced(NamedTuple):
    """A step as JAX has traced it.

    Attributes:
      state: shapes and shardings of all that it changes.
      batch: the same of a batch.
      flops: of its matrix products, by the dtype of their factors, over all devices.
      traced: the step, to be compiled.
    """

    state: TrainState
    batch: Batch
    flops: Counter[str]
    traced: Any


class Compiled(NamedTuple):
    """What the compiler made of a step for each device.

    Attributes:
      program: its instructions.
      products: its matrix products.
      arguments: bytes of what it is given.
      results: bytes of what it gives, less what takes the place of an argument.
      temporary: bytes of all between: gradients, activations, copies.
    """

    program: Program
    products: Sequence[Product]
    arguments: int
    results: int
    temporary: int


def make_plan_layout(config: Config, devices: Sequence[Any]) -> MeshLayout:
    """The layout of the run on these devices; of ``pmap`` the one by ``jit`` that has the same on each device.

    Raises:
      InputError: the mesh does not fit the devices, or the batch the mesh.
    """
    layout = MeshLayout(config.mesh, config.logical_axis_rules, devices)
    check_batch_size(config, layout)
    return layout


def trace_step(config: Config, sizes: Sizes, layout: MeshLayout) -> Traced:
    """Traces the step that ``train`` would run; nothing is made but shapes.

    Raises:
      InputError: a parameter cannot be divided as the mesh asks.
    """
    training = make_plan_training(config, sizes)
    state = layout.shapes(training.init_state)
    batch = batch_shapes(config.train.batch_size, sizes, layout)
    step: Any = layout.compile(training.step, jax.random.key(config.seed + 1), state)
    traced = step.trace((), state, batch)
    return Traced(state, batch, count_flops(traced.jaxpr), traced)


def make_plan_training(config: Config, sizes: Sizes) -> Training:
    """What the run trains, teachers left out."""
    return make_training(config, make_model(config, sizes.source_vocabulary, sizes.target_vocabulary), [])


def batch_shapes(rows: int, sizes: Sizes, layout: MeshLayout) -> Batch:
    """The largest batch."""

    def array(length: int, dtype: Any = jnp.int32) -> Any:
        return jax.ShapeDtypeStruct((rows, length), dtype)

    source, target = (Tokens(*[array(length)] * 3) for length in (sizes.source_length, sizes.target_length))
    return layout.batch_shapes(
        Batch(source, target, array(sizes.target_length), array(sizes.target_length, jnp.float32))
    )


def compile_step(traced: Traced) -> Compiled:
    """Compiles a traced step and reads the program. Takes seconds to minutes, and no memory of a model's size."""
    compiled = traced.traced.lower().compile(compiler_options=_QUICK)
    program = read_program(compiled.as_text())
    memory = compiled.memory_analysis()
    return Compiled(
        program,
        read_products(program),
        arguments=memory.argument_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
    )
