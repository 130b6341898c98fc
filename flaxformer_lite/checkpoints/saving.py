"""Checkpoints of a run: written by Orbax in the background, each whole or not there at all."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from flaxformer_lite.checkpoints.format import first_sound, read, reading, steps_of, write
from flaxformer_lite.checkpoints.records import Evaluation, ranked, steps_in
from flaxformer_lite.config.dataclasses import TrainConfig
from flaxformer_lite.errors import InputError, write_errors_named
from flaxformer_lite.system import multihost
from flaxformer_lite.train_step.state import TrainState

logger = logging.getLogger(__name__)


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
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes=multihost.process_indices()),
            create=False,
        )
        with write_errors_named(folder), multihost.primary_first():
            folder.mkdir(parents=True, exist_ok=True)
        with write_errors_named(folder):
            self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Closes, except after a failure of one of several processes: the others may never come to do so too."""
        if kind is None or multihost.is_single_process():
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
        with write_errors_named(self._folder):
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
            steps = steps_of(self._folder)
            found = first_sound(steps, partial(read, manager, _parts(like)), self._set_aside)
        if steps and not found:
            raise InputError(f"{self._folder}: no sound checkpoint is left; remove the work folder to start anew")
        if not found:
            return None
        parts, run, *_ = found[1]
        training = parts.pop("training")
        history = [Evaluation(*evaluation) for evaluation in run["history"]]
        return Saved(TrainState(**parts, **training), run["data"], history, run["sums"])

    def close(self) -> None:
        """Waits until everything is written."""
        with write_errors_named(self._folder), jax.transfer_guard("allow"):
            self._manager.wait_until_finished()
            self._manager.close()

    def newest(self) -> int:
        """The step of the newest checkpoint that is whole; 0 if there is none."""
        return next(iter(steps_in(self._folder)), 0)

    def _set_aside(self, step: int, why: str) -> None:
        with multihost.primary_first():
            if multihost.is_primary():
                self._rename(step, "damaged", f"is damaged ({why})")
        self._manager.reload()

    def _rename(self, step: int, as_what: str, why: str) -> None:
        names = (f"{as_what}.{step}" + ".again" * times for times in itertools.count())
        aside = next(place for name in names if not (place := self._folder / name).exists())
        checkpoint = self._folder / str(step)
        logger.info(f"checkpoint {checkpoint} {why}; set aside as {aside.name}")
        checkpoint.rename(aside)


class _Kept(managers.PreservationPolicy):
    """Which checkpoints stay: the latest ones, and the best by the history that is being saved."""

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


def _parts(state: TrainState) -> dict[str, Any]:
    """What is saved each by itself, so that decoding reads no more than it needs."""
    training = state._asdict()
    parts = {name: training.pop(name) for name in ("params", "ema")} | {"training": training}
    return {name: tree for name, tree in parts.items() if jax.tree.leaves(tree)}
