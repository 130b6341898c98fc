"""The training run, from the first word to the last checkpoint."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from flaxformer_lite import memory
from flaxformer_lite.announced import Announced
from flaxformer_lite.checkpoint import Checkpoints, Evaluation, Saved, best, quiet_orbax
from flaxformer_lite.config import Config
from flaxformer_lite.data.pipeline import Prepared, load_training
from flaxformer_lite.errors import InputError
from flaxformer_lite.evaluate import TeacherForced, decode_examples
from flaxformer_lite.forms import one_by_one
from flaxformer_lite.models.build import make_model
from flaxformer_lite.objective import Sums
from flaxformer_lite.predict import Predictor
from flaxformer_lite.report import Report, format_duration, format_progress, say
from flaxformer_lite.searches import make_search
from flaxformer_lite.sharding import MeshLayout, make_layout
from flaxformer_lite.steps import Health
from flaxformer_lite.teachers import Teacher, load_teachers
from flaxformer_lite.training import make_training
from flaxformer_lite.workdir import WorkDir


def train(config: Config, path: Path) -> int:
    """Trains, or goes on where the run in this folder stopped.

    Args:
      config: the run.
      path: its work folder.

    Returns:
      The exit code: 0, or 128 + the signal that stopped the run.

    Raises:
      InputError: config, data or folder cannot work, before anything is compiled; or the disk is full, or training
        diverged: then everything up to the last checkpoint is kept.
    """
    layout = make_layout(config)
    data = load_training(config.data, config.seed)
    model = make_model(config, data.source_vocabulary.size, data.target_vocabulary.size)
    folder = WorkDir(path)
    vocabularies = (data.source_vocabulary, data.target_vocabulary)
    teachers = load_teachers(config, vocabularies, folder.teachers(), layout.mesh_layout)
    training = make_training(config, model, [teacher.model for teacher in teachers])
    make_search(config.decode, data.target_vocabulary)  # names what it cannot heed now, not at the first evaluation
    shapes = layout.shapes(training.first_state)
    batches = data.train.batches(
        config.train.batch_size, config.seed, jax.process_index(), jax.process_count(), config.data.prefetch
    )
    folder.claim(config)
    folder.save_vocabularies(*vocabularies)
    folder.save_teachers({teacher.folder: teacher.step for teacher in teachers})
    _say_what(data, teachers, shapes.params, training.frozen)

    with ExitStack() as stack:
        stack.enter_context(quiet_orbax())
        checkpoints = Checkpoints(folder.checkpoints, config.train, config.eval.best_metric)
        stack.callback(checkpoints.close)
        if saved := checkpoints.restore(shapes):
            state, history, logged = layout.spread(saved.state), saved.history, saved.sums
            batches.set_state(saved.data)
            done, skipped = int(saved.state.step), Skipped(int(saved.state.skipped), int(saved.state.skipped_total))
            say(f"going on from step {done:,}, which {path} holds")
        else:
            state, history, logged = layout.init(training.first_state), [], [0.0] * len(Sums._fields)
            done, skipped = 0, Skipped(0, 0)
        del saved  # or the state would be held twice

        report = Report(path)
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
        del teachers  # or pmap would hold them twice

        signals = stack.enter_context(_signals())
        stack.enter_context(jax.transfer_guard("disallow"))
        while done < config.train.steps and not signals and not _out_of_patience(config, history):
            state, sums, health = update(state, layout.put(next(batches)))
            done += 1
            progress.add(done, sums, health)
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
    return _say_end(config, path, done, history, signals)


class Evaluator:
    """Evaluation in the middle of training: measures, records, shows samples, draws the curves."""

    def __init__(self, config: Config, data: Prepared, layout: MeshLayout, report: Report):
        vocabularies = (data.source_vocabulary, data.target_vocabulary)
        self._config = config
        self._report = report
        self._examples = data.validation_examples.sample(config.eval.max_examples)
        self._predictor = Predictor(config, vocabularies, {}, 0, layout)
        self._forced = TeacherForced(self._predictor.model_of(config.decode), config.train, data.validation, layout)

    def __call__(self, step: int, params: Any) -> float:
        """Returns the metric by which checkpoints are compared."""
        start = time.monotonic()
        self._predictor.params, self._predictor.step = params, step
        decoded = decode_examples(self._predictor, self._examples, self._config.decode)
        found = self._forced(params) | decoded.metrics
        self._report.write(step, {f"eval/{name}": value for name, value in found.items()})
        rows = zip(self._examples.sources, self._examples.references, decoded.hypotheses, strict=True)
        shown = list(rows)[:: max(len(self._examples) // max(self._config.eval.samples, 1), 1)]
        self._report.samples(step, [(s, r[0], h) for s, r, h in shown[: self._config.eval.samples]])
        self._report.curves()
        say(f"evaluation at step {step:,} ({format_duration(time.monotonic() - start)}): "
            + "  ".join(f"{name} {value:.4g}" for name, value in found.items()))  # fmt: skip
        return found[self._config.eval.best_metric]


class Skipped(NamedTuple):
    """Updates skipped because loss or gradient were not finite."""

    in_a_row: int
    total: int


class Progress:
    """What updates bring, read one step late so that the device never waits for the host."""

    def __init__(
        self, config: Config, schedule: Callable[[int], Any], report: Report, skipped: Skipped, sums: Sequence[float]
    ):
        self._train = config.train
        self._schedule = schedule
        self._report = report
        self._skipped = skipped
        self._pending: tuple[int, Sums, Health] | None = None
        self._sums = np.array(sums)  # since the last line
        self.reset_clock()

    @property
    def sums(self) -> list[float]:
        """The sums of the updates read since the last line of the log."""
        return self._sums.tolist()

    def add(self, step: int, sums: Sums, health: Health) -> None:
        """Takes the results of update number ``step``, which may be still under way, and reads those before it."""
        self.catch_up()
        self._pending = step, sums, health

    def catch_up(self) -> None:
        """Waits for the last update and reads its results."""
        if self._pending is None:
            return
        (step, *results), self._pending = self._pending, None
        sums, health = jax.device_get(results)
        self._watch(step, sums, health)
        if health.applied:
            self._sums += np.array(sums)
        self._steps += 1
        self._tokens += float(sums.weight)
        if step % self._train.log_every == 0 or step == self._train.steps:
            self._log(step, health)

    def reset_clock(self) -> None:
        """Begins to measure anew, so that evaluating and saving do not count as training."""
        self._clock, self._steps, self._tokens = time.monotonic(), 0, 0.0

    def _watch(self, step: int, sums: Sums, health: Health) -> None:
        if health.applied:
            self._skipped = Skipped(0, self._skipped.total)
            return
        self._skipped = Skipped(self._skipped.in_a_row + 1, self._skipped.total + 1)
        loss = sums.objective / sums.weight
        say(f"step {step:,}: update skipped: loss {loss}, gradient norm {health.gradient_norm}")
        if self._skipped.in_a_row >= self._train.max_skipped:
            raise InputError(
                f"step {step:,}: loss or gradient was not finite for {self._skipped.in_a_row} updates in a row "
                f"(config.train.max_skipped); the last checkpoint is good and none of these updates is in it; lower "
                f"config.optim.learning_rate or config.optim.clip_norm and start in another work folder"
            )

    def _log(self, step: int, health: Health) -> None:
        seconds = time.monotonic() - self._clock
        loss, correct, weight, objective = self.sums
        weight = weight or float("nan")  # all updates may have been skipped
        with jax.transfer_guard("allow"):  # the schedule is jax's; its few numbers may go to the device
            rate = float(self._schedule(max(step - self._skipped.total - 1, 0)))  # of the last update applied
        rate *= float(health.rate_factor)
        values = {
            "train/loss": loss / weight,
            "train/token_accuracy": 100 * correct / weight,
            "train/learning_rate": rate,
            "train/gradient_norm": float(health.gradient_norm),
            "train/tokens_per_second": self._tokens / seconds,
        }
        if objective != loss:  # more than the label loss is minimised
            values["train/objective"] = objective / weight
        if self._skipped.total:
            values["train/skipped"] = self._skipped.total
        self._report.write(step, values)
        left = (self._train.steps - step) * seconds / max(self._steps, 1)
        say(format_progress(step, self._train.steps, values["train/loss"], rate, self._tokens / seconds, left))
        self._sums = np.zeros(len(Sums._fields))
        self.reset_clock()


def _out_of_patience(config: Config, history: list[Evaluation]) -> bool:
    found = best(history, config.eval.best_metric)
    since = [evaluation for evaluation in history if found and evaluation.step > found.step]
    return 0 < config.train.patience <= len(since)


@contextmanager
def _signals() -> Iterator[list[int]]:
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


def _say_what(data: Prepared, teachers: Sequence[Teacher], params: Any, frozen: Any) -> None:
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


def _say_end(config: Config, path: Path, done: int, history: list[Evaluation], signals: list[int]) -> int:
    if signals:
        say(f"stopped and saved at step {done:,}; the same command goes on from there")
        return 128 + signals[0]
    if found := best(history, config.eval.best_metric):
        metric = config.eval.best_metric
        why = "" if done == config.train.steps else f" (no better {metric} in {config.train.patience} evaluations)"
        say(f"done at step {done:,}{why}; best {metric} {found.value:.4g} at step {found.step:,}; all in {path}")
    return 0
