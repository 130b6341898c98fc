"""Training of several seeds in one program: a sibling of ``loop.train``, whose runs they would be one by one.

Each seed is a run in a folder of its own, which knows nothing of the others. Their states lie side by side and ``vmap``
makes one step of theirs; batches of one step may be of several shapes, and are padded to the largest.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np

from flaxformer_lite.checkpoints import provenance
from flaxformer_lite.checkpoints.format import quiet_orbax
from flaxformer_lite.checkpoints.layer_layout import one_by_one
from flaxformer_lite.checkpoints.records import best
from flaxformer_lite.checkpoints.saving import Checkpoints
from flaxformer_lite.checkpoints.work_dir import RunResult, WorkDir
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.pipeline import load_trainings
from flaxformer_lite.data.vocabularies.vocabulary import Vocabulary
from flaxformer_lite.errors import require
from flaxformer_lite.monitoring.metric_writer import Report, going_on
from flaxformer_lite.monitoring.mfu import PeakFlops, StepTiming
from flaxformer_lite.monitoring.profiler import Profile
from flaxformer_lite.sharding.layout import SeedsLayout
from flaxformer_lite.system import multihost
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.train_step.state import TrainState
from flaxformer_lite.training import loop
from flaxformer_lite.training.course import follow
from flaxformer_lite.training.distillation import load_teachers
from flaxformer_lite.training.evaluator import Evaluator
from flaxformer_lite.training.init_from import begun_with
from flaxformer_lite.training.run_state import Run, has_ended, say_what
from flaxformer_lite.training.setup import Training
from flaxformer_lite.training.vmap_seeds_progress import Means, ProgressTogether, SeedProgress, SeedReport, format_mean
from flaxformer_lite.types import Batch

logger = logging.getLogger(__name__)


def start(config: Config, path: Path, traced: tuple[int, int] = (0, 0), like: Path | None = None) -> int:
    """Trains what a config asks for, one run or several; see ``loop.train`` and ``train``."""
    return (loop.train if config.train.vmap_seeds == 1 else train)(config, path, traced, like)


def train(config: Config, path: Path, traced: tuple[int, int] = (0, 0), like: Path | None = None) -> int:
    """Trains ``train.vmap_seeds`` seeds, or goes on where their runs in this folder stopped.

    Each seed ends as it would by itself, when its steps or its patience are over; the others go on without it. What
    stops one for a fault, a loss that is not finite for too long, stops all.

    Args:
      config: the run, with the first of the seeds.
      path: the folder that theirs lie in, beside the record of their means and deviations.
      traced: first and last step of those that are traced into it; (0, 0): none.
      like: the folder of seeds that these shall equal, with the same data and teachers; None: their own.

    Returns:
      The exit code: 0, or 128 + the signal that stopped the run.

    Raises:
      InputError: as ``loop.train``.
    """
    require(
        multihost.is_single_process(),
        f"config.train.vmap_seeds={config.train.vmap_seeds}: the seeds of a program train in one process, on all its "
        f"devices; start it without --distributed and --coordinator",
    )
    layout = SeedsLayout(config.mesh, config.train.vmap_seeds)
    folder, example = WorkDir(path), WorkDir(like or path)
    runs = _make_runs(config, folder)
    for run in runs:
        run.check()
    teachers = load_teachers(config, _common_vocabularies(config, runs), example.teachers(), layout.mesh_layout)
    training = runs[0].training(teachers)
    shapes = layout.mesh_layout.shapes(training.first_state)
    folder.claim(config)
    learning_from = {teacher.folder: teacher.step for teacher in teachers}
    folder.save_teachers(learning_from)
    for run in runs:
        run.claim(learning_from, example.of_seed(run.config.seed))
    say_what(runs[0].data, teachers, shapes.params, training.frozen)
    logger.info(
        f"{len(runs)} seeds in one program, each a run of its own: {runs[0].folder.path} to {runs[-1].folder.path}"
    )

    with ExitStack() as stack:
        for one in (folder, *(run.folder for run in runs)):
            stack.enter_context(one.alone())
        stack.enter_context(quiet_orbax())
        checkpoints = [stack.enter_context(run.checkpoints()) for run in runs]
        states = _first_states(runs, checkpoints, layout, training, shapes)
        running = {number: run for number, run in enumerate(runs) if not run.ended}
        done = max(run.done for run in (running.values() or runs))
        if done:
            logger.info(f"going on from step {done:,}, which {path} holds")
        provenance.note_start(folder, example, config, done)
        for run in runs:
            provenance.note_start(run.folder, run.folder, run.config, run.done)
        means = Means(stack.enter_context(going_on(Report(path), done)))
        reports = [stack.enter_context(going_on(SeedReport(run.folder.path, means), run.done)) for run in runs]
        first = Evaluator(runs[0].config, runs[0].data, layout.mesh_layout, reports[0])
        progress = {
            number: SeedProgress(run.config, training.schedule, reports[number], run.skipped, run.sums)
            for number, run in running.items()
        }
        fixed = layout.mesh_layout.replicate([teacher.params for teacher in teachers])
        compiled = layout.compile(training.step, [jax.random.key(seed + 1) for seed in config.seeds])
        course = _SideBySide(
            running,
            done,
            layout,
            checkpoints,
            states,
            LoggedJit(partial(compiled, fixed), f"training step of {len(runs)} seeds", config.train.max_compiles),
            PeakFlops(runs[0].plain_objective(teachers), shapes.params, fixed, config),
            [first.of_seed(run.config, run.data, own) for run, own in zip(runs, reports, strict=True)],
            ProgressTogether(progress, means, config.train.steps),
            means,
        )
        del states  # which are the course's from now on
        stop = follow(course, config.train, Profile(*traced, path / "profile"))
    _note_ends(folder, runs)
    return _say_end(config, path, course.done, runs, stop)


@dataclass
class _SideBySide:
    """The course of several seeds; each has its number in ``states`` and in all that is a list."""

    running: dict[int, Run]
    done: int
    layout: SeedsLayout
    checkpoints: Sequence[Checkpoints]
    states: TrainState
    update: LoggedJit
    at_best: PeakFlops
    evaluators: Sequence[Evaluator]
    progress: ProgressTogether
    means: Means

    @property
    def ended(self) -> bool:
        return all(run.ended for run in self.running.values())

    def step(self) -> None:
        asked = time.monotonic()
        batches = {number: next(run.batches) for number, run in self.running.items()}
        batch = side_by_side(batches, len(self.checkpoints))
        spent = StepTiming(time.monotonic() - asked, self.at_best(jax.tree.map(lambda x: x[0], batch)))
        self.states, (sums, health) = self.update(self.states, self.layout.put(batch))
        self.done += 1
        for run in self.running.values():
            run.done = self.done
        self.progress.add(self.done, sums, health, spent)

    def evaluate(self) -> None:
        for number, run in self.running.items():
            run.evaluated(self.evaluators[number](self.done, one_by_one(self.layout.one(self.states.served, number))))
        self.means.write()
        self.means.curves()

    def save(self) -> None:
        for number, run in self.running.items():
            state = self.layout.one(self.states, number)
            self.checkpoints[number].save(run.to_save(state, self.progress.sums(number)))
        out_of_patience = [n for n, run in self.running.items() if run.ended and self.done < run.config.train.steps]
        for number in out_of_patience:
            logger.info(f"seed {self.running.pop(number).config.seed} has ended, out of patience")
            self.progress.leave(number)


def _make_runs(config: Config, folder: WorkDir) -> list[Run]:
    alone = dataclasses.replace(config.train, vmap_seeds=1)
    return [
        Run(dataclasses.replace(config, seed=seed, train=alone), data, folder.of_seed(seed), (0, 1))
        for seed, data in zip(config.seeds, load_trainings(config.data, config.seeds), strict=True)
    ]


def _common_vocabularies(config: Config, runs: Sequence[Run]) -> tuple[Vocabulary, Vocabulary]:
    """The first seed's, which teachers must have: those of all, where there is a teacher."""
    first, *others = ([vocabulary.to_json() for vocabulary in run.vocabularies] for run in runs)
    require(
        not config.train.distill.teachers or all(other == first for other in others),
        f"config.train.distill.teachers={config.train.distill.teachers}: each of {len(runs)} seeds draws data with "
        f"vocabularies of its own, and a teacher knows but one; set config.train.vmap_seeds=1",
    )
    return runs[0].vocabularies


def _first_states(
    runs: Sequence[Run], checkpoints: Sequence[Checkpoints], layout: SeedsLayout, training: Training, shapes: TrainState
) -> TrainState:
    """Those of the newest step that the runs which have not ended have in common, or those at step 0.

    A kill may have come when some had saved and others not yet. One that has ended, and was not saved at that step,
    stays as it is: it ended earlier, or has been trained further by itself.
    """
    while True:
        found = [own.restore(shapes) for own in checkpoints]
        done = [int(saved.state.step) if saved else 0 for saved in found]
        histories = [saved.history if saved else [] for saved in found]
        ended = [has_ended(runs[0].config, *of_one) for of_one in zip(done, histories, strict=True)]
        common = min((step for step, over in zip(done, ended, strict=True) if not over), default=max(done))
        ahead = [
            own
            for own, step, over in zip(checkpoints, done, ended, strict=True)
            if step > common and (not over or own.has(common))
        ]
        if not ahead:
            break
        for own in ahead:
            own.go_back(common)
    for run, saved in zip(runs, found, strict=True):
        if saved:
            run.go_on_from(saved)
    if common and all(found):
        return layout.spread([saved.state for saved in found if saved])
    states = layout.init(lambda seed: training._replace(seed=seed).first_state(), [run.config.seed for run in runs])
    if not runs[0].config.train.init_from:
        return states
    return layout.spread([begun_with(run.config, layout.one(states, number)) for number, run in enumerate(runs)])


def side_by_side(batches: dict[int, Batch], count: int) -> Batch:
    """Batches of one step, by the number of their seed, as one that is led by ``count`` seeds.

    Shorter rows are padded to the longest. A number without a batch gets that of another seed.
    """
    any_other = next(iter(batches.values()))

    def together(*leaves: np.ndarray) -> np.ndarray:
        longest = max(leaf.shape[1] for leaf in leaves)
        return np.stack([np.pad(leaf, ((0, 0), (0, longest - leaf.shape[1]))) for leaf in leaves])

    return jax.tree.map(together, *(batches.get(number, any_other) for number in range(count)))


def _note_ends(folder: WorkDir, runs: Sequence[Run]) -> None:
    """Notes which seeds have ended and, once all have, the mean of their bests and the step by which they had them."""
    ends = {run: run.finish() for run in runs if run.ended}
    for run, end in ends.items():
        run.folder.save_finish(end)
    if len(ends) == len(runs):
        bests = [end.best_value for end in ends.values() if end.best_value is not None]
        mean = float(np.mean(bests)) if len(bests) == len(runs) else None
        steps, best_steps = [end.step for end in ends.values()], [end.best_step for end in ends.values()]
        folder.save_finish(RunResult(max(steps), max(best_steps), mean))


def _say_end(config: Config, path: Path, done: int, runs: Sequence[Run], stop: int) -> int:
    if stop:
        logger.info(f"stopped and saved at step {done:,}; the same command goes on from there")
        return 128 + stop
    metric = config.eval.best_metric
    bests = [found.value for run in runs if (found := best(run.history, metric))]
    if bests:
        logger.info(f"done at step {done:,}; best {metric} {format_mean(bests)} over {len(bests)} seeds; all in {path}")
    return 0
