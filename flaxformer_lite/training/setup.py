"""What a run trains, made of its config: the step that it repeats and the state that it begins with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax
from jax.typing import DTypeLike

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.train_step import optimizers
from flaxformer_lite.train_step.objective import PartlyFrozen, make_objective
from flaxformer_lite.train_step.state import Seed, TrainState, init_params, init_state, with_average
from flaxformer_lite.train_step.step import TrainStep


class Training(NamedTuple):
    """The step, and what its first state is made of.

    Attributes:
      model: whose parameters are learned.
      step: one update.
      schedule: the learning rate of each update.
      seed: of the parameters.
      frozen: a boolean for each parameter: whether it stays as it is.
      dtype: that they are kept in.
    """

    model: nn.Module
    step: TrainStep
    schedule: optax.Schedule
    seed: Seed
    frozen: Any
    dtype: DTypeLike

    def first_state(self) -> TrainState:
        """The state before the first step; parameters still wear the names of their logical axes."""
        state = init_state(self.model, self.step.optimizer, self.seed, self.dtype)
        return with_average(state) if self.step.ema_decay else state


def make_training(config: Config, model: nn.Module, teachers: Sequence[nn.Module]) -> Training:
    """What a run of this config trains.

    Raises:
      InputError: a pattern for parameters' paths is found in none, or nothing is left to train.
    """
    schedule = optimizers.make_schedule(config.optim, config.train.steps)
    objective = make_objective(model, config.train, teachers)
    params = jax.eval_shape(partial(init_params, model, config.seed))
    frozen = optimizers.frozen(config.optim, params)
    optimizer = optimizers.make_optimizer(config.optim, schedule, params, config.precision.moment_dtype)
    step = TrainStep(PartlyFrozen(objective, frozen), optimizer, config.train.ema_decay, config.train.grad_accum_steps)
    return Training(model, step, schedule, config.seed, frozen, config.precision.param_dtype)


def without_remat(config: Config) -> Config:
    """The same run with nothing computed again, which is what its model needs to be computed."""
    return dataclasses.replace(config, model=dataclasses.replace(config.model, remat="none"))
