"""Checkpoints of a run: written by Orbax in the background, each whole or not there at all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from flaxformer_lite import processes
from flaxformer_lite.config import TrainConfig
from flaxformer_lite.errors import InputError, full_disk_named
from flaxformer_lite.metrics import lower_is_better
from flaxformer_lite.say import say
from flaxformer_lite.stored import Stored, first_sound, quiet_orbax, read, read_record, reading, steps_of, write
from flaxformer_lite.train_state import TrainState

_AVERAGE = "average"  # the folder, among those of the checkpoints, that their mean lies in


class Evaluation(NamedTuple):
    """The best metric at one evaluation."""

    step: int
    value: float


class Saved(NamedTuple):
    """All that a run needs to go on as if it had never stopped.

    Attributes:
      state: parameters, moments, step and counters.
      data: the data iterator's position.
      history: the best metric at every evaluation so far; patience and the best are read off it.
      sums: those since the last line of the log, which the next one will tell the mean of.
    """

    state: TrainState
    data: dict[str, Any]
    history: list[Evaluation]
    sums: list[float]


def ranked(history: Sequence[Evaluation], metric: str) -> list[Evaluation]:
    """The evaluations from best to worst, the earliest of equals first; what is not a number is worst."""
    sign = 1 if lower_is_better(metric) else -1
    return sorted(history, key=lambda e: (math.isnan(e.value), sign * e.value, e.step))


def best(history: Sequence[Evaluation], metric: str) -> Evaluation | None:
    """The best evaluation, the earliest of equals."""
    return next(iter(ranked(history, metric)), None)


class Checkpoints:
    """The checkpoints of a run that trains."""

    def __init__(self, folder: Path, config: TrainConfig, metric: str):
        self._folder = folder
        self._kept = _Kept(config.keep_latest, config.keep_best, metric)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._kept,
            cleanup_tmp_directories=True,
            # Where a folder cannot be made, threads that were to write into it would wait for it for five minutes.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
            # Told which processes there are, Orbax has them wait for one another through jax's coordinator; otherwise
            # by sums over all devices, which know no time limit. It makes no folder then.
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes=processes.everybody()),
            create=False,
        )
        with full_disk_named(folder), processes.first_ahead():
            folder.mkdir(parents=True, exist_ok=True)
        with full_disk_named(folder):
            self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Closes, except after a failure of one of several processes: the others may never come to do so too."""
        if kind is None or processes.alone():
            self.close()

    def save(self, saved: Saved) -> None:
        """Begins to save; the arrays are copied before this returns, the files are written meanwhile.

        Does nothing where this step is saved already. A failed write is raised by the next ``save`` or by ``close``.
        """
        step = int(jax.device_get(saved.state.step))
        if step in self._manager.all_steps():
            return
        self._kept.history = saved.history
        run = {"data": saved.data, "history": saved.history, "sums": saved.sums}
        with full_disk_named(self._folder):
            write(self._manager, step, _parts(saved.state), run)

    def restore(self, like: TrainState) -> Saved | None:
        """The newest sound checkpoint; None if there is none.

        Damaged ones are said, set aside under another name, and passed over.

        Args:
          like: the state as ``jax.ShapeDtypeStruct`` with shardings: where it shall be.

        Raises:
          InputError: there are checkpoints, but none is sound.
        """
        with reading(self._folder) as manager:
            steps = steps_of(manager)
            found = first_sound(steps, partial(read, manager, _parts(like)), self._set_aside)
        if steps and not found:
            raise InputError(f"{self._folder}: no sound checkpoint is left; remove the work folder to start anew")
        if not found:
            return None
        parts, run, *_ = found[1]
        training = parts.pop("training")
        self._kept.history = [Evaluation(*evaluation) for evaluation in run["history"]]
        return Saved(TrainState(**parts, **training), run["data"], self._kept.history, run["sums"])

    def close(self) -> None:
        """Waits until everything is written."""
        with full_disk_named(self._folder), jax.transfer_guard("allow"):
            self._manager.wait_until_finished()
            self._manager.close()

    def newest(self) -> int:
        """The step of the newest checkpoint that is whole; 0 if there is none."""
        return max((int(path.name) for path in self._folder.iterdir() if path.name.isdigit()), default=0)

    def _set_aside(self, step: int, why: str) -> None:
        with processes.first_ahead():
            if processes.first():
                self._rename(step, why)
        self._manager.reload()

    def _rename(self, step: int, why: str) -> None:
        names = (f"damaged.{step}" + ".again" * times for times in itertools.count())
        aside = next(place for name in names if not (place := self._folder / name).exists())
        damaged = self._folder / str(step)
        say(f"checkpoint {damaged} is damaged ({why}); set aside as {aside.name}")
        damaged.rename(aside)


class _Kept(managers.PreservationPolicy):
    """Which checkpoints stay: the latest ones, and the best by the history that lies in the checkpoints themselves."""

    def __init__(self, latest: int, best: int, metric: str):
        self.history: list[Evaluation] = []
        self._latest = latest
        self._best = best
        self._metric = metric

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """One answer for each of Orbax's checkpoints, which are in the order of their steps."""
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        evaluated = [evaluation for evaluation in self.history if evaluation.step in steps]
        best = [evaluation.step for evaluation in ranked(evaluated, self._metric)[: self._best]]
        return [step in best or step in steps[-self._latest :] for step in steps]


def restore_params(folder: Path, which: str | int, metric: str, like: Any) -> tuple[int, Any]:
    """Step and parameters of one checkpoint: their moving average, where the run keeps one.

    Args:
      folder: the checkpoints of a run.
      which: ``best`` by the metric (the latest, where nothing has been evaluated), ``latest``, a step, or ``average``,
        what ``save_average`` made (its step is that of the last checkpoint in it). Where best or latest is damaged,
        that is said and the next one taken.
      metric: by which the run was evaluated.
      like: parameters as ``jax.ShapeDtypeStruct`` with shardings: where they shall be.

    Raises:
      InputError: there is no such checkpoint, or none that is sound.
    """
    if which == "average":
        return _restore_average(folder, like)
    with reading(folder) as manager:

        def pass_over(step: int, why: str) -> None:
            if step == which:
                _refuse(folder, step, why)
            say(f"checkpoint {folder / str(step)} is damaged ({why}); passed over")

        steps = _order(manager, which, metric)
        found = first_sound(steps, partial(_read_served, manager, like), pass_over)
    if not steps:
        raise InputError(f"{folder}: there are no checkpoints yet")
    if not found:
        raise InputError(f"{folder}: no sound checkpoint is left of steps {sorted(steps)}")
    step, read = found
    (params,) = read.parts.values()
    return step, params


def save_average(folder: Path, last: int, config: TrainConfig, like: Any) -> list[int]:
    """Keeps the mean of the parameters of the last checkpoints beside them, in place of an earlier mean.

    They are added up in float64 and rounded once. It is the parameters themselves, also where the run keeps a moving
    average of them. Training in the same folder neither sees the mean nor removes it.

    Args:
      folder: the checkpoints of a run.
      last: how many. Those that the run keeps for being its best do not count, where others were saved after them.
      config: by which the run saves.
      like: parameters as ``jax.ShapeDtypeStruct`` with shardings: where one checkpoint at a time is read to.

    Returns:
      The steps that went in.

    Raises:
      InputError: there are not so many in a row, or one of them is damaged.
    """
    sums = [np.zeros(leaf.shape, np.float64) for leaf in jax.tree.leaves(like)]
    with reading(folder) as manager:
        there = sorted(manager.all_steps())
        steps = _in_a_row(there, config)[-last:]
        if len(steps) < last:
            raise InputError(
                f"--last={last}: the last checkpoints without a gap are those of steps {steps} (config.train."
                f"keep_latest={config.keep_latest}; {folder} has {there}); ask for fewer, or train with config.train."
                f"keep_latest={last}"
            )
        for step in steps:
            found = first_sound([step], partial(read, manager, {"params": like}), partial(_refuse, folder))
            assert found, "or it was refused"
            for total, leaf in zip(sums, jax.tree.leaves(found[1].parts["params"]), strict=True):
                total += np.asarray(jax.device_get(leaf), np.float64)
    means = [jnp.asarray(x / last, leaf.dtype) for x, leaf in zip(sums, jax.tree.leaves(like), strict=True)]
    mean = jax.tree.unflatten(jax.tree.structure(like), means)
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    place = (folder / _AVERAGE).absolute()
    with quiet_orbax(), full_disk_named(folder), ocp.CheckpointManager(place, options=options) as manager:
        # Under a number of its own, so that the last one is there until this one is whole.
        write(manager, (manager.latest_step() or 0) + 1, {"params": mean}, {"steps": steps})
    return steps


def _in_a_row(steps: Sequence[int], config: TrainConfig) -> list[int]:
    """The last of these steps between which a run saves no other; what stays for being the best may lie far before."""
    row = list(steps[-1:])
    for step in reversed(steps[:-1]):
        following = min((step // every + 1) * every for every in (config.save_every, config.eval_every))
        if following < row[0]:
            break
        row.insert(0, step)
    return row


def _restore_average(folder: Path, like: Any) -> tuple[int, Any]:
    place = folder / _AVERAGE
    if not place.is_dir():
        raise InputError(f"{folder}: there is no average of checkpoints; flaxformer-lite average makes one")
    with reading(place) as manager:
        numbers = steps_of(manager)
        found = first_sound(numbers, partial(read, manager, {"params": like}), partial(_refuse, place))
    if not found:
        raise InputError(f"{folder}: there is no average of checkpoints; flaxformer-lite average makes one")
    parts, run, *_ = found[1]
    say(f"the average of the checkpoints of steps {', '.join(map(str, run['steps']))}")
    return run["steps"][-1], parts["params"]


def _parts(state: TrainState) -> dict[str, Any]:
    """What is saved each by itself, so that decoding reads no more than it needs."""
    training = state._asdict()
    parts = {name: training.pop(name) for name in ("params", "ema")} | {"training": training}
    return {name: tree for name, tree in parts.items() if jax.tree.leaves(tree)}


def _read_served(manager: ocp.CheckpointManager, like: Any, step: int) -> Stored:
    """The parameters that decoding uses, and they alone."""
    if "ema" not in read_record(manager, step)["checksums"]:
        return read(manager, {"params": like}, step)
    average = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=x.sharding), like)
    return read(manager, {"ema": average}, step)


def _refuse(folder: Path, step: int, why: str) -> NoReturn:
    raise InputError(f"checkpoint {folder / str(step)} is damaged ({why})")


def _order(manager: ocp.CheckpointManager, which: str | int, metric: str) -> list[int]:
    """The steps to try, in turn."""
    steps = steps_of(manager)
    if isinstance(which, int):
        if which not in steps:
            there = f"there are {steps[::-1]}" if steps else "there is none yet"
            raise InputError(f"{manager.directory}: there is no checkpoint of step {which}; {there}")
        return [which]
    if which == "latest":
        return steps
    best = [evaluation.step for evaluation in ranked(_history(manager, steps), metric) if evaluation.step in steps]
    return processes.exchange(best + [step for step in steps if step not in best])[0]


def _history(manager: ocp.CheckpointManager, steps: Sequence[int]) -> list[Evaluation]:
    """The history that the first of these checkpoints holds whose record can be read."""
    for step in steps:
        try:
            return [Evaluation(*evaluation) for evaluation in read_record(manager, step)["history"]]
        except Exception:  # a damaged file; restoring this step will say so
            continue
    return []
