"""A run: what it learns, from what, in which folder, and how far it has come."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import jax

from flaxformer_lite.checkpoints import provenance
from flaxformer_lite.checkpoints.records import Evaluation, best
from flaxformer_lite.checkpoints.saving import Checkpoints, Saved
from flaxformer_lite.checkpoints.work_dir import RunResult, WorkDir
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.pipeline import TrainingData
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.inference.search_from_config import make_search
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.monitoring.progress import Skipped
from flaxformer_lite.train_step.objective import Objective, Sums
from flaxformer_lite.train_step.state import TrainState
from flaxformer_lite.training.distillation import Teacher
from flaxformer_lite.training.init_from import check_beginning
from flaxformer_lite.training.setup import Training, make_training, without_remat

logger = logging.getLogger(__name__)


class Run:
    """A run on its way.

    Args:
      config: of the run.
      data: what it learns from.
      folder: its work folder.
      share: which share of each batch this process has, and of how many.

    Attributes:
      batches: what it reads.
      done: the steps behind it.
      history: its evaluations so far.
      sums: those since the last line of the log, as its last checkpoint had them.
      skipped: its skipped updates, likewise.
    """

    def __init__(self, config: Config, data: TrainingData, folder: WorkDir, share: tuple[int, int]):
        self.config, self.data, self.folder = config, data, folder
        self.batches = data.train.batches(config.train.batch_size, config.seed, *share, config.data.prefetch)
        self.done = 0
        self.history: list[Evaluation] = []
        self.sums = [0.0] * len(Sums._fields)
        self.skipped = Skipped(0, 0)

    @property
    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """Of sources and of targets."""
        return self.data.source_vocabulary, self.data.target_vocabulary

    def check(self) -> None:
        """Raises ``InputError`` for what would be found only when it begins, or at its first evaluation."""
        check_beginning(self.config, self.vocabularies)
        make_search(self.config.decode, self.data.target_vocabulary)

    def training(self, teachers: Sequence[Teacher]) -> Training:
        """What it repeats, and what it begins with; errors as in ``make_training``."""
        return self._training(self.config, teachers)

    def plain_objective(self, teachers: Sequence[Teacher]) -> Objective:
        """What is made small, with nothing computed again to save memory."""
        return self._training(without_remat(self.config), teachers).step.objective

    def _training(self, config: Config, teachers: Sequence[Teacher]) -> Training:
        model = make_model(config, *(vocabulary.size for vocabulary in self.vocabularies))
        return make_training(config, model, [teacher.model for teacher in teachers])

    def claim(self, learning_from: dict[str, int], example: WorkDir) -> None:
        """Makes its folder this run's own; its data must be those of the run in ``example``.

        Args:
          learning_from: the checkpoint of each teacher, by its folder.
          example: the work folder of that run, or this run's own.
        """
        self.folder.claim(self.config)
        fingerprint = provenance.fingerprint(self.data)
        example.check_data(fingerprint)
        self.folder.save_data(fingerprint)
        self.folder.save_vocabularies(*self.vocabularies)
        self.folder.save_teachers(learning_from)

    def checkpoints(self) -> Checkpoints:
        """Opens those in its folder."""
        return Checkpoints(self.folder.checkpoints, self.config.train, self.config.eval.best_metric)

    def go_on_from(self, saved: Saved) -> None:
        """Stands where a checkpoint was saved."""
        self.batches.set_state(saved.data)
        self.history, self.sums, self.done = saved.history, saved.sums, int(saved.state.step)
        self.skipped = Skipped(int(saved.state.skipped), int(saved.state.skipped_total))

    def evaluated(self, value: float) -> None:
        """Notes the metric by which checkpoints are compared, as it is now."""
        self.history = [*self.history, Evaluation(self.done, value)]

    def to_save(self, state: TrainState, sums: list[float]) -> Saved:
        """All that it needs to go on from here."""
        return Saved(state, self.batches.get_state(), self.history, sums)

    @property
    def ended(self) -> bool:
        """Whether it has ended as its config says."""
        return has_ended(self.config, self.done, self.history)

    def finish(self) -> RunResult:
        """What is noted of it once it has ended."""
        found = best(self.history, self.config.eval.best_metric) or Evaluation(0, math.nan)
        return RunResult(self.done, found.step, found.value if math.isfinite(found.value) else None)


def has_ended(config: Config, done: int, history: Sequence[Evaluation]) -> bool:
    """Whether a run of this history has all its steps behind it, or waited for something better as long as it may."""
    found = best(history, config.eval.best_metric)
    since = [evaluation for evaluation in history if found and evaluation.step > found.step]
    return done == config.train.steps or 0 < config.train.patience <= len(since)


def say_what(data: TrainingData, teachers: Sequence[Teacher], params: Any, frozen: Any) -> None:
    """Says what is trained, on what and from what."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    still = sum(leaf.size for leaf, off in zip(jax.tree.leaves(params), jax.tree.leaves(frozen), strict=True) if off)
    devices = f"{jax.device_count()} {jax.devices()[0].device_kind} device{'s' * (jax.device_count() > 1)}"
    logger.info(
        f"{count:,} parameters{f' ({still:,} of them frozen)' * bool(still)} on {devices}; "
        f"{len(data.train.source.lengths):,} training and "
        f"{len(data.validation_examples):,} validation examples; vocabularies of {data.source_vocabulary.size:,} and "
        f"{data.target_vocabulary.size:,}"
    )
    for split, counts in (("training", data.train_counts), ("validation", data.validation_counts)):
        if counts.dropped or counts.truncated:
            logger.info(
                f"{split}: {counts.dropped:,} examples dropped and {counts.truncated:,} truncated for their length"
            )
    for teacher in teachers:
        logger.info(f"learning from {teacher.folder}, step {teacher.step:,}")
