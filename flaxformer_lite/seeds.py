"""Training of several seeds in one program: a sibling of ``loop.train``, whose runs they would be one by one.

Each seed is a run in a folder of its own, which knows nothing of the others. Their states lie side by side and ``vmap``
makes one step of theirs; batches of one step may be of several shapes, and are padded to the largest.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import grain
import jax
import numpy as np

from flaxformer_lite import loop, memory, processes, provenance
from flaxformer_lite.announced import Announced
from flaxformer_lite.beginning import begun_with, check_beginning
from flaxformer_lite.checkpoints.forms import one_by_one
from flaxformer_lite.checkpoints.records import Evaluation, best
from flaxformer_lite.checkpoints.saving import Checkpoints, Saved
from flaxformer_lite.checkpoints.stored import quiet_orbax
from flaxformer_lite.config import Config
from flaxformer_lite.data.pipeline import Prepared, load_trainings
from flaxformer_lite.data.vocabulary import Vocabulary
from flaxformer_lite.errors import require
from flaxformer_lite.inference.searches import make_search
from flaxformer_lite.loop import Evaluator, finish, heeded_signals, out_of_patience, plain_objective, say_what
from flaxformer_lite.models.build import make_model
from flaxformer_lite.objective import Sums
from flaxformer_lite.say import say
from flaxformer_lite.sharding import SeedsLayout
from flaxformer_lite.teachers import load_teachers
from flaxformer_lite.train_state import TrainState
from flaxformer_lite.training import make_training
from flaxformer_lite.types import Batch
from flaxformer_lite.watch.profiling import Profile
from flaxformer_lite.watch.progress import Skipped
from flaxformer_lite.watch.report import Report
from flaxformer_lite.watch.together import Means, ProgressTogether, SeedProgress, SeedReport, format_mean
from flaxformer_lite.watch.usage import AtBest, Spent
from flaxformer_lite.workdir import Finish, WorkDir

R = TypeVar("R", bound=Report)


@dataclass
class Seed:
    """One of the seeds, as the run that it is by itself.

    Attributes:
      config: of that run.
      data: what it learns from.
      folder: its work folder.
      batches: what it reads.
      history: its evaluations so far.
      sums: those since the last line of the log, as its last checkpoint had them.
      skipped: its skipped updates, likewise.
      done: the steps behind it.
    """

    config: Config
    data: Prepared
    folder: WorkDir
    batches: grain.DatasetIterator[Batch]
    history: list[Evaluation] = field(default_factory=list)
    sums: list[float] = field(default_factory=lambda: [0.0] * len(Sums._fields))
    skipped: Skipped = field(default_factory=lambda: Skipped(0, 0))
    done: int = 0

    @property
    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """Of sources and of targets."""
        return self.data.source_vocabulary, self.data.target_vocabulary

    def claim(self, teachers: dict[str, int], example: WorkDir) -> None:
        """Makes its folder this run's own; its data must be those of the run in ``example``."""
        self.folder.claim(self.config)
        fingerprint = provenance.fingerprint(self.data)
        example.check_data(fingerprint)
        self.folder.save_data(fingerprint)
        self.folder.save_vocabularies(*self.vocabularies)
        self.folder.save_teachers(teachers)

    def go_on_from(self, saved: Saved) -> None:
        """Stands where a checkpoint was saved."""
        self.batches.set_state(saved.data)
        self.history, self.sums, self.done = saved.history, saved.sums, int(saved.state.step)
        self.skipped = Skipped(int(saved.state.skipped), int(saved.state.skipped_total))

    @property
    def ended(self) -> bool:
        """Whether it has ended as its config says."""
        return _has_ended(self.config, self.done, self.history)


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
        processes.alone(),
        f"config.train.vmap_seeds={config.train.vmap_seeds}: the seeds of a program train in one process, on all its "
        f"devices; start it without --distributed and --coordinator",
    )
    layout = SeedsLayout(config.mesh, config.train.vmap_seeds)
    folder, example = WorkDir(path), WorkDir(like or path)
    seeds = _make_seeds(config, folder)
    model = make_model(config, *(vocabulary.size for vocabulary in seeds[0].vocabularies))
    teachers = load_teachers(config, _common_vocabularies(config, seeds), example.teachers(), layout.mesh_layout)
    training = make_training(config, model, [teacher.model for teacher in teachers])
    for seed in seeds:
        check_beginning(config, seed.vocabularies)
        make_search(config.decode, seed.vocabularies[1])  # names what it cannot heed now
    shapes = layout.mesh_layout.shapes(training.first_state)
    folder.claim(config)
    learning_from = {teacher.folder: teacher.step for teacher in teachers}
    folder.save_teachers(learning_from)
    for seed in seeds:
        seed.claim(learning_from, example.of_seed(seed.config.seed))
    say_what(seeds[0].data, teachers, shapes.params, training.frozen)
    say(f"{len(seeds)} seeds in one program, each a run of its own: {seeds[0].folder.path} to {seeds[-1].folder.path}")

    with ExitStack() as stack:
        for one in (folder, *(seed.folder for seed in seeds)):
            stack.enter_context(one.alone())
        stack.enter_context(quiet_orbax())
        checkpoints = [
            stack.enter_context(Checkpoints(seed.folder.checkpoints, config.train, config.eval.best_metric))
            for seed in seeds
        ]
        states = _restore(seeds, checkpoints, shapes, layout)
        running = {number: seed for number, seed in enumerate(seeds) if not seed.ended}
        done = max(seed.done for seed in (running.values() or seeds))
        if states is None:
            states = layout.init(lambda seed: training._replace(seed=seed).first_state(), config.seeds)
            if config.train.init_from:
                states = layout.spread([begun_with(config, layout.one(states, number)) for number in range(len(seeds))])
        else:
            say(f"going on from step {done:,}, which {path} holds")
        provenance.note_start(folder, example, config, done)
        for seed in seeds:
            provenance.note_start(seed.folder, seed.folder, seed.config, seed.done)

        means = Means(_open(stack, Report(path), done))
        reports = [_open(stack, SeedReport(seed.folder.path, means), seed.done) for seed in seeds]
        first = Evaluator(seeds[0].config, seeds[0].data, layout.mesh_layout, reports[0])
        evaluate = [first.of_seed(seed.config, seed.data, own) for seed, own in zip(seeds, reports, strict=True)]
        progress = ProgressTogether(
            {
                number: SeedProgress(seed.config, training.schedule, reports[number], seed.skipped, seed.sums)
                for number, seed in running.items()
            },
            means,
            config.train.steps,
        )
        fixed = layout.mesh_layout.replicate([teacher.params for teacher in teachers])
        keys = [jax.random.key(seed + 1) for seed in config.seeds]
        update = Announced(
            partial(layout.compile(training.step, keys), fixed),
            f"training step of {len(seeds)} seeds",
            config.train.max_compiles,
        )
        at_best = AtBest(plain_objective(config, seeds[0].data, teachers), shapes.params, fixed, config)
        profile = Profile(*traced, path / "profile")
        stack.callback(profile.close)
        profile.check(done, config.train.steps)
        signals = stack.enter_context(heeded_signals())
        stack.enter_context(jax.transfer_guard("disallow"))

        def save() -> None:
            for number, seed in running.items():
                seed.done = done
                state, sums = layout.one(states, number), progress.sums(number)
                checkpoints[number].save(Saved(state, seed.batches.get_state(), seed.history, sums))

        while not (stop := max(signals, default=0)) and done < config.train.steps and running:
            profile.before(done + 1, progress.catch_up)
            asked = time.monotonic()
            batch = side_by_side({number: next(seed.batches) for number, seed in running.items()}, len(seeds))
            spent = Spent(time.monotonic() - asked, at_best(jax.tree.map(lambda x: x[0], batch)))
            states, (sums, health) = update(states, layout.put(batch))
            done += 1
            progress.add(done, sums, health, spent)
            profile.after(done, progress.catch_up)
            evaluating = done % config.train.eval_every == 0 or done == config.train.steps
            if evaluating or done % config.train.save_every == 0:
                progress.catch_up()
                if evaluating:
                    for number, seed in running.items():
                        value = evaluate[number](done, one_by_one(layout.one(states.served, number)))
                        seed.history = [*seed.history, Evaluation(done, value)]
                    means.write()
                    means.curves()
                save()
                memory.give_back()
                progress.reset_clock()
                for number in [number for number, seed in running.items() if seed.ended and done < config.train.steps]:
                    say(f"seed {running.pop(number).config.seed} has ended, out of patience")
                    progress.leave(number)
        progress.catch_up()
        save()
    _note_ends(config, folder, seeds)
    return _say_end(config, path, done, seeds, stop)


def _make_seeds(config: Config, folder: WorkDir) -> list[Seed]:
    alone, seeds = dataclasses.replace(config.train, vmap_seeds=1), []
    for seed, data in zip(config.seeds, load_trainings(config.data, config.seeds), strict=True):
        batches = data.train.batches(config.train.batch_size, seed, 0, 1, config.data.prefetch)
        own = dataclasses.replace(config, seed=seed, train=alone)
        seeds.append(Seed(own, data, folder.of_seed(seed), batches))
    return seeds


def _common_vocabularies(config: Config, seeds: Sequence[Seed]) -> tuple[Vocabulary, Vocabulary]:
    """The first seed's, which teachers must have: those of all, where there is a teacher."""
    first, *others = ([vocabulary.to_json() for vocabulary in seed.vocabularies] for seed in seeds)
    require(
        not config.train.distill.teachers or all(other == first for other in others),
        f"config.train.distill.teachers={config.train.distill.teachers}: each of {len(seeds)} seeds draws data with "
        f"vocabularies of its own, and a teacher knows but one; set config.train.vmap_seeds=1",
    )
    return seeds[0].vocabularies


def _restore(
    seeds: Sequence[Seed], checkpoints: Sequence[Checkpoints], shapes: TrainState, layout: SeedsLayout
) -> TrainState | None:
    """Brings the seeds that have not ended to the newest step that they have in common; their states; None: at step 0.

    A kill may have come when some had saved and others not yet. One that has ended, and was not saved at that step,
    stays as it is: it ended earlier, or has been trained further by itself.
    """
    while True:
        found = [own.restore(shapes) for own in checkpoints]
        done = [int(saved.state.step) if saved else 0 for saved in found]
        histories = [saved.history if saved else [] for saved in found]
        ended = [_has_ended(seeds[0].config, *of_one) for of_one in zip(done, histories, strict=True)]
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
    for seed, saved in zip(seeds, found, strict=True):
        if saved:
            seed.go_on_from(saved)
    states = [saved.state for saved in found if saved]
    return layout.spread(states) if common and len(states) == len(seeds) else None


def _has_ended(config: Config, done: int, history: list[Evaluation]) -> bool:
    return done == config.train.steps or out_of_patience(config, history)


def side_by_side(batches: dict[int, Batch], count: int) -> Batch:
    """Batches of one step, by the number of their seed, as one that is led by ``count`` seeds.

    Shorter rows are padded to the longest. A number without a batch gets that of another seed.
    """
    any_other = next(iter(batches.values()))

    def together(*leaves: np.ndarray) -> np.ndarray:
        longest = max(leaf.shape[1] for leaf in leaves)
        return np.stack([np.pad(leaf, ((0, 0), (0, longest - leaf.shape[1]))) for leaf in leaves])

    return jax.tree.map(together, *(batches.get(number, any_other) for number in range(count)))


def _open(stack: ExitStack, report: R, done: int) -> R:
    """A record that goes on after ``done`` steps, and is closed with the run."""
    stack.callback(report.close)
    report.rewind(done)
    return report


def _note_ends(config: Config, folder: WorkDir, seeds: Sequence[Seed]) -> None:
    """Notes which seeds have ended and, once all have, the mean of their bests and the step by which they had them."""
    ends = [finish(seed.config, seed.done, seed.history) for seed in seeds if seed.ended]
    for seed, end in zip([seed for seed in seeds if seed.ended], ends, strict=True):
        seed.folder.save_finish(end)
    if len(ends) == len(seeds):
        bests = [end.best_value for end in ends if end.best_value is not None]
        mean = float(np.mean(bests)) if len(bests) == len(ends) else None
        folder.save_finish(Finish(max(end.step for end in ends), max(end.best_step for end in ends), mean))


def _say_end(config: Config, path: Path, done: int, seeds: Sequence[Seed], stop: int) -> int:
    if stop:
        say(f"stopped and saved at step {done:,}; the same command goes on from there")
        return 128 + stop
    metric = config.eval.best_metric
    bests = [found.value for seed in seeds if (found := best(seed.history, metric))]
    if bests:
        say(f"done at step {done:,}; best {metric} {format_mean(bests)} over {len(bests)} seeds; all in {path}")
    return 0
