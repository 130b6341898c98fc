"""Run state: the part of a run's state that is on the host, and when the run is finished."""

from __future__ import annotations

import math
from functools import partial

from flaxformer_lite.checkpoints.checkpoint_manager import Checkpoint
from flaxformer_lite.checkpoints.listing import Evaluation, best_evaluation
from flaxformer_lite.checkpoints.work_dir import RunResult
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.buckets import batch_rows
from flaxformer_lite.data.dataset import TrainingData
from flaxformer_lite.data.pipeline import training_batches
from flaxformer_lite.monitoring.training_metrics import NUM_SUMS, Skipped
from flaxformer_lite.train_step.state import TrainState


class RunState:
    """Step, data position, evaluation history and loss sums of a run.

    Args:
      config: of the run.
      data: its training data.
      process_shard: (i, n): this process reads part i of n equal parts of each batch.

    Attributes:
      batches: the data iterator.
      step: number of finished steps.
      history: its evaluations so far.
      sums: loss sums since the last progress line, at the checkpoint from which it resumed.
      skipped: skipped updates, likewise.
    """

    def __init__(self, config: Config, data: TrainingData, process_shard: tuple[int, int]):
        self._config = config
        self.batches = training_batches(
            data.train, partial(batch_rows, config.train), config.seed, process_shard, config.data.prefetch
        )
        self.step = 0
        self.history: list[Evaluation] = []
        self.sums = [0.0] * NUM_SUMS
        self.skipped = Skipped(0, 0)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Resets the run to a checkpoint."""
        self.batches.set_state(checkpoint.data)
        self.history, self.sums, self.step = checkpoint.history, checkpoint.sums, int(checkpoint.state.step)
        self.skipped = Skipped(int(checkpoint.state.skipped), int(checkpoint.state.skipped_total))

    def to_checkpoint(self, state: TrainState, sums: list[float]) -> Checkpoint:
        """The checkpoint of the current step."""
        return Checkpoint(state, self.batches.get_state(), self.history, sums)

    def add_evaluation(self, value: float) -> None:
        """Appends the value of ``eval.best_metric`` at the current step."""
        self.history = [*self.history, Evaluation(self.step, value)]  # checkpoints refer to the old list

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done, or ``train.patience`` evaluations in a row were not better than the best."""
        best = best_evaluation(self.history, self._config.eval.best_metric)
        worse = [evaluation for evaluation in self.history if best and evaluation.step > best.step]
        return self.step == self._config.train.steps or 0 < self._config.train.patience <= len(worse)

    def result(self) -> RunResult:
        """The last and the best step."""
        best = best_evaluation(self.history, self._config.eval.best_metric) or Evaluation(0, math.nan)
        return RunResult(self.step, best.step, best.value if math.isfinite(best.value) else None)
