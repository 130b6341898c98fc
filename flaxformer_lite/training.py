"""What a run trains, made of its config: the step that it repeats and the state that it begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import optax

from flaxformer_lite import optim
from flaxformer_lite.config import Config
from flaxformer_lite.objective import make_objective
from flaxformer_lite.steps import TrainStep
from flaxformer_lite.train_state import TrainState, init_state, with_average


class Training(NamedTuple):
    """The step, and what its first state is made of.

    Attributes:
      model: whose parameters are learned.
      step: one update.
      schedule: the learning rate of each update.
      seed: of the parameters.
    """

    model: nn.Module
    step: TrainStep
    schedule: optax.Schedule
    seed: int

    def first_state(self) -> TrainState:
        """The state before the first step; parameters still wear the names of their logical axes."""
        state = init_state(self.model, self.step.optimizer, self.seed)
        return with_average(state) if self.step.ema_decay else state


def make_training(config: Config, model: nn.Module, teachers: Sequence[nn.Module]) -> Training:
    """What a run of this config trains."""
    schedule = optim.make_schedule(config.optim, config.train.steps)
    objective = make_objective(model, config.train, teachers)
    step = TrainStep(objective, optim.make_optimizer(config.optim, schedule), config.train.ema_decay)
    return Training(model, step, schedule, config.seed)
