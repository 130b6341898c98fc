"""The training run, from the first word to the last checkpoint."""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax

from flaxformer_lite import memory, processes, provenance
from flaxformer_lite.announced import Announced
from flaxformer_lite.beginning import begun_with, check_beginning
from flaxformer_lite.checkpoints.forms import one_by_one
from flaxformer_lite.checkpoints.records import Evaluation, best
from flaxformer_lite.checkpoints.saving import Checkpoints, Saved
from flaxformer_lite.checkpoints.stored import quiet_orbax
from flaxformer_lite.config import Config
from flaxformer_lite.data.pipeline import Prepared, load_training
from flaxformer_lite.inference.evaluate import TeacherForced, decode_examples
from flaxformer_lite.inference.predict import Predictor
from flaxformer_lite.inference.searches import make_search
from flaxformer_lite.models.build import make_model
from flaxformer_lite.objective import Objective, Sums
from flaxformer_lite.say import format_duration, say
from flaxformer_lite.sharding import MeshLayout, make_layout
from flaxformer_lite.teachers import Teacher, load_teachers
from flaxformer_lite.training import make_training, without_remat
from flaxformer_lite.watch.profiling import Profile
from flaxformer_lite.watch.progress import Progress, Skipped
from flaxformer_lite.watch.report import Report, make_report
from flaxformer_lite.watch.usage import AtBest, Spent
from flaxformer_lite.workdir import Finish, WorkDir


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
    data = load_training(config.data, config.seed)
    model = make_model(config, data.source_vocabulary.size, data.target_vocabulary.size)
    folder, example = WorkDir(path), WorkDir(like or path)
    vocabularies = (data.source_vocabulary, data.target_vocabulary)
    check_beginning(config, vocabularies)
    teachers = load_teachers(config, vocabularies, example.teachers(), layout.mesh_layout)
    training = make_training(config, model, [teacher.model for teacher in teachers])
    make_search(config.decode, data.target_vocabulary)  # names what it cannot heed now, not at the first evaluation
    shapes = layout.shapes(training.first_state)
    batches = data.train.batches(config.train.batch_size, config.seed, *layout.share, config.data.prefetch)
    fingerprint = provenance.fingerprint(data)
    with processes.first_ahead():
        folder.claim(config)
        example.check_data(fingerprint)
        folder.save_data(fingerprint)
        folder.save_vocabularies(*vocabularies)
        folder.save_teachers({teacher.folder: teacher.step for teacher in teachers})
    say_what(data, teachers, shapes.params, training.frozen)

    with ExitStack() as stack:
        stack.enter_context(folder.alone())
        stack.enter_context(quiet_orbax())
        checkpoints = stack.enter_context(Checkpoints(folder.checkpoints, config.train, config.eval.best_metric))
        processes.last_words(partial(_say_gone, checkpoints))
        if saved := checkpoints.restore(shapes):
            state, history, logged = layout.spread(saved.state), saved.history, saved.sums
            batches.set_state(saved.data)
            done, skipped = int(saved.state.step), Skipped(int(saved.state.skipped), int(saved.state.skipped_total))
            say(f"going on from step {done:,}, which {path} holds")
        else:
            state, history, logged = layout.init(training.first_state), [], [0.0] * len(Sums._fields)
            if config.train.init_from:
                state = layout.spread(begun_with(config, layout.whole(state)))
            done, skipped = 0, Skipped(0, 0)
        provenance.note_start(folder, example, config, done)
        del saved  # or the state would be held twice

        report = make_report(path)
        stack.callback(report.close)
        report.rewind(done)
        evaluate = Evaluator(config, data, layout.mesh_layout, report)
        progress = Progress(config, training.schedule, report, skipped, logged)
        fixed = layout.spread([teacher.params for teacher in teachers])
        update = Announced(
            partial(layout.compile(training.step, jax.random.key(config.seed + 1), shapes), fixed),
            "training step",
            config.train.max_compiles,
        )
        at_best = AtBest(plain_objective(config, data, teachers), shapes.params, fixed, config)
        del teachers  # or pmap would hold them twice

        profile = Profile(*(traced if processes.first() else (0, 0)), path / "profile")
        stack.callback(profile.close)
        profile.check(done, config.train.steps)
        signals = stack.enter_context(heeded_signals())
        agreement = processes.Agreement()
        stack.enter_context(jax.transfer_guard("disallow"))
        while not (stop := agreement(max(signals, default=0))) and done < config.train.steps:
            if out_of_patience(config, history):
                break
            profile.before(done + 1, progress.catch_up)
            asked = time.monotonic()
            batch = next(batches)
            spent = Spent(time.monotonic() - asked, at_best(batch))
            state, (sums, health) = update(state, layout.put(batch))
            done += 1
            progress.add(done, sums, health, spent)
            profile.after(done, progress.catch_up)
            evaluating = done % config.train.eval_every == 0 or done == config.train.steps
            if evaluating or done % config.train.save_every == 0:
                progress.catch_up()
                if evaluating:
                    history = [*history, Evaluation(done, evaluate(done, one_by_one(layout.whole(state).served)))]
                checkpoints.save(Saved(layout.whole(state), batches.get_state(), history, progress.sums))
                memory.give_back()
                progress.reset_clock()
        progress.catch_up()
        checkpoints.save(Saved(layout.whole(state), batches.get_state(), history, progress.sums))
    if done == config.train.steps or out_of_patience(config, history):
        folder.save_finish(finish(config, done, history))
    return _say_end(config, path, done, history, stop)


class Evaluator:
    """Evaluation in the middle of training: measures, records, shows samples, draws the curves."""

    def __init__(self, config: Config, data: Prepared, layout: MeshLayout, report: Report):
        vocabularies = (data.source_vocabulary, data.target_vocabulary)
        self._predictor = Predictor(config, vocabularies, {}, 0, layout)
        self._forced = TeacherForced(self._predictor.model_of(config.decode), config.train, layout)
        self._name = ""
        self._measure_on(config, data, report)

    def of_seed(self, config: Config, data: Prepared, report: Report) -> Evaluator:
        """That of another seed of the same run; nothing is compiled twice."""
        other = copy.copy(self)
        other._predictor = self._predictor.of_seed(config, (data.source_vocabulary, data.target_vocabulary))
        other._name = f"seed {config.seed}: "
        other._measure_on(config, data, report)
        return other

    def _measure_on(self, config: Config, data: Prepared, report: Report) -> None:
        self._config = config
        self._report = report
        self._validation = data.validation
        self._examples = data.validation_examples.sample(config.eval.max_examples)

    def __call__(self, step: int, params: Any) -> float:
        """Returns the metric by which checkpoints are compared."""
        start = time.monotonic()
        self._predictor.params, self._predictor.step = params, step
        decoded = decode_examples(self._predictor, self._examples, self._config.decode)
        found = self._forced(params, self._validation) | decoded.metrics
        self._report.write(step, {f"eval/{name}": value for name, value in found.items()})
        rows = zip(self._examples.sources, self._examples.references, decoded.hypotheses, strict=True)
        shown = list(rows)[:: max(len(self._examples) // max(self._config.eval.samples, 1), 1)]
        self._report.samples(step, [(s, r[0], h) for s, r, h in shown[: self._config.eval.samples]])
        self._report.curves()
        say(f"{self._name}evaluation at step {step:,} ({format_duration(time.monotonic() - start)}): "
            + "  ".join(f"{name} {value:.4g}" for name, value in found.items()))  # fmt: skip
        return found[self._config.eval.best_metric]


def plain_objective(config: Config, data: Prepared, teachers: Sequence[Teacher]) -> Objective:
    """What is made small, with nothing computed again to save memory."""
    plain = without_remat(config)
    model = make_model(plain, data.source_vocabulary.size, data.target_vocabulary.size)
    return make_training(plain, model, [teacher.model for teacher in teachers]).step.objective


def out_of_patience(config: Config, history: list[Evaluation]) -> bool:
    """Whether a run of this history has waited for something better for as long as it may."""
    found = best(history, config.eval.best_metric)
    since = [evaluation for evaluation in history if found and evaluation.step > found.step]
    return 0 < config.train.patience <= len(since)


@contextmanager
def heeded_signals() -> Iterator[list[int]]:
    """Gives a list that SIGINT and SIGTERM are put into; a second one stops the program at once."""
    received: list[int] = []

    def receive(number: int, _: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        say(f"{signal.Signals(number).name}: saving after this step …")

    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield received
        return
    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say_what(data: Prepared, teachers: Sequence[Teacher], params: Any, frozen: Any) -> None:
    """Says what is trained, on what and from what."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    still = sum(leaf.size for leaf, off in zip(jax.tree.leaves(params), jax.tree.leaves(frozen), strict=True) if off)
    devices = f"{jax.device_count()} {jax.devices()[0].device_kind} device{'s' * (jax.device_count() > 1)}"
    say(
        f"{count:,} parameters{f' ({still:,} of them frozen)' * bool(still)} on {devices}; "
        f"{len(data.train.source.lengths):,} training and "
        f"{len(data.validation_examples):,} validation examples; vocabularies of {data.source_vocabulary.size:,} and "
        f"{data.target_vocabulary.size:,}"
    )
    for split, counts in (("training", data.train_counts), ("validation", data.validation_counts)):
        if counts.dropped or counts.truncated:
            say(f"{split}: {counts.dropped:,} examples dropped and {counts.truncated:,} truncated for their length")
    for teacher in teachers:
        say(f"learning from {teacher.folder}, step {teacher.step:,}")


def _say_gone(checkpoints: Checkpoints) -> str:
    return (
        f"another process is gone (or the runtime failed: its own words stand above), so this one ends; the same "
        f"command on all of them goes on from step {checkpoints.newest():,}"
    )


def finish(config: Config, done: int, history: list[Evaluation]) -> Finish:
    """What is noted of a run that ended after ``done`` steps."""
    found = best(history, config.eval.best_metric) or Evaluation(0, math.nan)
    return Finish(done, found.step, found.value if math.isfinite(found.value) else None)


def _say_end(config: Config, path: Path, done: int, history: list[Evaluation], stop: int) -> int:
    if stop:
        say(f"stopped and saved at step {done:,}; the same command goes on from there")
        return 128 + stop
    if found := best(history, config.eval.best_metric):
        metric = config.eval.best_metric
        why = "" if done == config.train.steps else f" (no better {metric} in {config.train.patience} evaluations)"
        say(f"done at step {done:,}{why}; best {metric} {found.value:.4g} at step {found.step:,}; all in {path}")
    return 0
