"""The training of one run, from the first word to the last checkpoint."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax

from flaxformer_lite.checkpoints import provenance
from flaxformer_lite.checkpoints.format import quiet_orbax
from flaxformer_lite.checkpoints.layer_layout import one_by_one
from flaxformer_lite.checkpoints.records import best
from flaxformer_lite.checkpoints.saving import Checkpoints
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.pipeline import load_training
from flaxformer_lite.monitoring.metric_writer import going_on, make_report
from flaxformer_lite.monitoring.mfu import PeakFlops, StepTiming
from flaxformer_lite.monitoring.profiler import Profile
from flaxformer_lite.monitoring.progress import Progress
from flaxformer_lite.sharding.layout import Layout, make_layout
from flaxformer_lite.system import multihost
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.train_step.state import TrainState
from flaxformer_lite.training.course import follow
from flaxformer_lite.training.distillation import load_teachers
from flaxformer_lite.training.evaluator import Evaluator
from flaxformer_lite.training.init_from import begun_with
from flaxformer_lite.training.run_state import Run, say_what
from flaxformer_lite.training.setup import Training

logger = logging.getLogger(__name__)


def train(config: Config, path: Path, traced: tuple[int, int] = (0, 0), like: Path | None = None) -> int:
    """Trains, or goes on where the run in this folder stopped.

    Args:
      config: the run.
      path: its work folder.
      traced: first and last step of those that are traced into it; (0, 0): none.
      like: the work folder of a run that this one shall equal, with the same data and teachers; None: its own.

    Returns:
      The exit code: 0, or 128 + the signal that stopped the run.

    Raises:
      InputError: config, data or folder cannot work, before anything is compiled; or the disk is full, or training
        diverged: then everything up to the last checkpoint is kept.
    """
    layout = make_layout(config)
    run = Run(config, load_training(config.data, config.seed), WorkDir(path), layout.share)
    example = WorkDir(like or path)
    run.check()
    teachers = load_teachers(config, run.vocabularies, example.teachers(), layout.mesh_layout)
    training = run.training(teachers)
    shapes = layout.shapes(training.first_state)
    with multihost.primary_first():
        run.claim({teacher.folder: teacher.step for teacher in teachers}, example)
    say_what(run.data, teachers, shapes.params, training.frozen)

    with ExitStack() as stack:
        stack.enter_context(run.folder.alone())
        stack.enter_context(quiet_orbax())
        checkpoints = stack.enter_context(run.checkpoints())
        multihost.set_abort_message(partial(_say_gone, checkpoints))
        state = _first_state(run, checkpoints, layout, training, shapes)
        provenance.note_start(run.folder, example, config, run.done)
        report = stack.enter_context(going_on(make_report(path), run.done))
        fixed = layout.spread([teacher.params for teacher in teachers])
        compiled = layout.compile(training.step, jax.random.key(config.seed + 1), shapes)
        course = _OneRun(
            run,
            layout,
            checkpoints,
            state,
            LoggedJit(partial(compiled, fixed), "training step", config.train.max_compiles),
            PeakFlops(run.plain_objective(teachers), shapes.params, fixed, config),
            Evaluator(config, run.data, layout.mesh_layout, report),
            Progress(config, training.schedule, report, run.skipped, run.sums),
        )
        del state, teachers  # the one is the course's from now on; pmap would hold the others twice
        stop = follow(course, config.train, Profile(*(traced if multihost.is_primary() else (0, 0)), path / "profile"))
    if run.ended:
        run.folder.save_finish(run.finish())
    return _say_end(run, stop)


@dataclass
class _OneRun:
    """The course of one run."""

    run: Run
    layout: Layout
    checkpoints: Checkpoints
    state: TrainState
    update: LoggedJit
    at_best: PeakFlops
    evaluator: Evaluator
    progress: Progress

    @property
    def done(self) -> int:
        return self.run.done

    @property
    def ended(self) -> bool:
        return self.run.ended

    def step(self) -> None:
        asked = time.monotonic()
        batch = next(self.run.batches)
        spent = StepTiming(time.monotonic() - asked, self.at_best(batch))
        self.state, (sums, health) = self.update(self.state, self.layout.put(batch))
        self.run.done += 1
        self.progress.add(self.done, sums, health, spent)

    def evaluate(self) -> None:
        self.run.evaluated(self.evaluator(self.done, one_by_one(self.layout.whole(self.state).served)))

    def save(self) -> None:
        self.checkpoints.save(self.run.to_save(self.layout.whole(self.state), self.progress.sums))


def _first_state(
    run: Run, checkpoints: Checkpoints, layout: Layout, training: Training, shapes: TrainState
) -> TrainState:
    """That of the newest checkpoint, which the run goes on from, or that at step 0; spread over the devices."""
    if saved := checkpoints.restore(shapes):
        run.go_on_from(saved)
        logger.info(f"going on from step {run.done:,}, which {run.folder.path} holds")
        return layout.spread(saved.state)
    state = layout.init(training.first_state)
    return layout.spread(begun_with(run.config, layout.whole(state))) if run.config.train.init_from else state


def _say_gone(checkpoints: Checkpoints) -> str:
    return (
        f"another process is gone (or the runtime failed: its own words stand above), so this one ends; the same "
        f"command on all of them goes on from step {checkpoints.newest():,}"
    )


def _say_end(run: Run, stop: int) -> int:
    if stop:
        logger.info(f"stopped and saved at step {run.done:,}; the same command goes on from there")
        return 128 + stop
    metric = run.config.eval.best_metric
    if found := best(run.history, metric):
        patience = run.config.train.patience
        why = "" if run.done == run.config.train.steps else f" (no better {metric} in {patience} evaluations)"
        logger.info(
            f"done at step {run.done:,}{why}; best {metric} {found.value:.4g} at step {found.step:,}; all in "
            f"{run.folder.path}"
        )
    return 0
