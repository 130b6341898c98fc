"""Builds the parts of a run from its config: data, model, train step and the first state."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import optax
from jax.typing import DTypeLike

from flaxformer_lite.checkpoints import run_provenance
from flaxformer_lite.checkpoints.checkpoint_manager import Checkpoints
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.dataset import TrainingData, load_training
from flaxformer_lite.inference.evaluate import check_group_by
from flaxformer_lite.inference.search_from_config import make_search
from flaxformer_lite.metrics.compute import make_metrics
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.monitoring.utilization import PeakTime
from flaxformer_lite.sharding.layout import Layout, make_layout
from flaxformer_lite.system import multihost
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.train_step import optimizers
from flaxformer_lite.train_step.objective import make_objective
from flaxformer_lite.train_step.state import TrainState, init_params, init_state, with_ema
from flaxformer_lite.train_step.step import TrainStep
from flaxformer_lite.training.init_from import check_init_from, load_init_params
from flaxformer_lite.training.run_state import RunState
from flaxformer_lite.training.teachers import Teacher, load_teachers

logger = logging.getLogger(__name__)


class Training(NamedTuple):
    """The train step of a run and the ingredients of its first state.

    Attributes:
      model: the model that is trained.
      step: one update.
      schedule: the learning rate of each update.
      seed: of the initial parameters.
      dtype: of the parameters.
    """

    model: nn.Module
    step: TrainStep
    schedule: optax.Schedule
    seed: int
    dtype: DTypeLike

    def init_state(self) -> TrainState:
        """The state before the first step; parameters are boxed with the names of their logical axes."""
        state = init_state(self.model, self.step.optimizer, self.seed, self.dtype)
        return with_ema(state) if self.step.ema_decay else state


class Setup(NamedTuple):
    """The parts of a run, before its work directory is opened for writing.

    Attributes:
      layout: of state and batches on the devices.
      data: training and validation data, with the vocabularies.
      teachers: of distillation.
      training: the train step.
      shapes: the state as ``jax.ShapeDtypeStruct`` with shardings.
    """

    layout: Layout
    data: TrainingData
    teachers: list[Teacher]
    training: Training
    shapes: TrainState


def prepare(config: Config, folder: WorkDir, reference: WorkDir) -> Setup:
    """Loads data and teachers, builds the train step and claims the work directory; nothing is compiled.

    Args:
      config: of the run.
      folder: its work directory.
      reference: the work directory of the run whose data and teachers this run must have; its own or another.

    Raises:
      InputError: config, data or work directory do not fit each other.
    """
    layout = make_layout(config)
    data = load_training(config.data, config.seed)
    vocabularies = data.source_vocabulary, data.target_vocabulary
    check_init_from(config, vocabularies)
    # The errors of these should not wait for the first evaluation.
    make_search(config.decode, data.target_vocabulary)
    make_metrics(config.eval.metrics, config.eval.metric_options)
    for each in data.validation.values():
        check_group_by(config.eval.group_by, each.examples)
    teachers = load_teachers(config, vocabularies, reference.teachers(), layout.mesh_layout)
    model = make_model(config, *(vocabulary.size for vocabulary in vocabularies))
    training = make_training(config, model, [teacher.model for teacher in teachers])
    shapes = layout.shapes(training.init_state)
    with multihost.primary_first():
        folder.claim(config)
        fingerprint = run_provenance.fingerprint(data)
        reference.check_data(fingerprint)
        folder.save_data(fingerprint)
        folder.save_vocabularies(*vocabularies)
        folder.save_teachers({teacher.folder: teacher.step for teacher in teachers})
    return Setup(layout, data, teachers, training, shapes)


def make_training(config: Config, model: nn.Module, teachers: Sequence[nn.Module] = ()) -> Training:
    """The train step of a config.

    Raises:
      InputError: a pattern of the config matches no parameter, or all parameters are frozen.
    """
    schedule = optimizers.make_schedule(config.optim, config.train.steps)
    params = jax.eval_shape(partial(init_params, model, config.seed))
    frozen = optimizers.frozen_mask(config.optim, params)
    objective = make_objective(model, config.train, teachers, frozen)
    optimizer = optimizers.make_optimizer(config.optim, schedule, params, config.precision.moment_dtype)
    step = TrainStep(objective, optimizer, config.train.ema_decay, config.train.grad_accum_steps)
    return Training(model, step, schedule, config.seed, config.precision.param_dtype)


def compile_update(config: Config, setup: Setup) -> tuple[LoggedJit, PeakTime]:
    """The training step, which is compiled at the first batch of each shape, and the time of a batch at peak FLOPs.

    Moves the parameters of the teachers to the devices.
    """
    layout, training = setup.layout, setup.training
    teacher_params = layout.to_layout([teacher.params for teacher in setup.teachers])
    setup.teachers.clear()  # under pmap their parameters would be on the devices twice
    step = layout.compile(training.step, jax.random.key(config.seed + 1), setup.shapes)
    update = LoggedJit(partial(step, teacher_params), "training step", config.train.max_compiles)
    return update, PeakTime(training.step.objective, setup.shapes.params, teacher_params, config)


def restore_or_init(config: Config, setup: Setup, checkpoints: Checkpoints, run: RunState) -> TrainState:
    """The state of the newest checkpoint, with ``run`` as it was there; otherwise the first state."""
    layout, training = setup.layout, setup.training
    if checkpoint := checkpoints.restore(setup.shapes):
        run.restore(checkpoint)
        logger.info(f"resuming from step {run.step:,}")
        return layout.to_layout(checkpoint.state)
    state = layout.init(training.init_state)
    if not config.train.init_from:
        return state
    return layout.to_layout(load_init_params(config, layout.to_global(state)))


def log_run_summary(setup: Setup) -> None:
    """Logs the sizes of model and data, the devices and the teachers."""
    data, leaves = setup.data, jax.tree.leaves(setup.shapes.params)
    is_frozen = jax.tree.leaves(setup.training.step.objective.frozen)
    count = sum(leaf.size for leaf in leaves)
    frozen = sum(leaf.size for leaf, off in zip(leaves, is_frozen, strict=True) if off)
    num_validation = sum(len(each.examples) for each in data.validation.values())
    devices = f"{jax.device_count()} {jax.devices()[0].device_kind} device{'s' * (jax.device_count() > 1)}"
    logger.info(
        f"{count:,} parameters{f' ({frozen:,} of them frozen)' * bool(frozen)} on {devices}; "
        f"{data.train.num_examples:,} training and "
        f"{num_validation:,} validation examples; vocabularies of {data.source_vocabulary.size:,} and "
        f"{data.target_vocabulary.size:,}"
    )
    buckets = data.train.buckets
    kind = "packed rows" if any((rows.lengths > 1).any() for rows in buckets.rows) else "length buckets"
    shapes = ", ".join(f"{source} + {target}" for source, target in buckets.shapes)
    logger.info(f"{kind} of {shapes} source and target tokens; {100 * data.train.padding:.1f} % padding")
    for split, counts in data.counts.items():
        if any(counts[1:]):
            kinds = zip(counts._fields[1:], counts[1:], strict=True)
            done = ", ".join(f"{number:,} {kind}" for kind, number in kinds if number)
            logger.info(f"{split}: of {counts.examples:,} examples {done} for their length")
    for split, dropped in data.dropped.items():
        for rows in dropped:
            logger.info(f"{split}: {rows}")
    for teacher in setup.teachers:
        logger.info(f"distilling from {teacher.folder}, step {teacher.step:,}")
