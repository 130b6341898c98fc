"""Saves checkpoints, by Orbax in the background; each appears complete or not at all."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from flaxformer_lite.checkpoints.listing import Evaluation, ranked, steps_in
from flaxformer_lite.checkpoints.storage import (
    checkpoint_steps,
    first_intact,
    first_line,
    open_reader,
    read,
    silence_orbax,
    write,
)
from flaxformer_lite.config.dataclasses import TrainConfig
from flaxformer_lite.errors import InputError, require, write_errors_named
from flaxformer_lite.system import multihost
from flaxformer_lite.train_step.state import TrainState

logger = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """All that a run needs to resume exactly.

    Attributes:
      state: parameters, optimizer state, step and counters.
      data: position of the data iterator.
      history: the best metric at every evaluation so far; patience and the best checkpoint follow from it.
      sums: loss sums since the last progress line, which the next line continues.
    """

    state: TrainState
    data: dict[str, Any]
    history: list[Evaluation]
    sums: list[float]


class Checkpoints:
    """The checkpoints of a running training."""

    def __init__(self, folder: Path, config: TrainConfig, metric: str):
        self._folder = folder
        self._policy = _KeepLatestAndBest(config.keep_latest, config.keep_best, metric)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._policy,
            cleanup_tmp_directories=True,
            # Otherwise, where a directory cannot be created, writer threads wait for it for five minutes.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
            # With explicit processes Orbax synchronizes through jax's coordinator; otherwise by sums over all devices,
            # which have no time limit. It creates no directory then.
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
        """Closes, except after a failure of one of several processes: the others may never reach this call."""
        if kind is None or multihost.is_single_process():
            self.close()

    def save(self, checkpoint: Checkpoint) -> None:
        """Starts to save; arrays are copied before this returns, files are written in the background.

        Does nothing where this step is saved already. A failed write is raised by the next ``save`` or by ``close``.
        """
        step = int(jax.device_get(checkpoint.state.step))
        with self._errors_named():
            if step in self._manager.all_steps():
                return
            self._policy.history = checkpoint.history
            record = {"data": checkpoint.data, "history": checkpoint.history, "sums": checkpoint.sums}
            write(self._manager, step, _parts(checkpoint.state), record)

    def restore(self, like: TrainState) -> Checkpoint | None:
        """The newest intact checkpoint; None if there is none. Damaged ones are renamed, with a message.

        ``like`` is the state as ``jax.ShapeDtypeStruct`` with shardings.

        Raises:
          InputError: there are checkpoints, but all are damaged.
        """
        with open_reader(self._folder) as manager:
            steps = checkpoint_steps(self._folder)
            found = first_intact(steps, partial(read, manager, _parts(like)), self._rename_damaged)
        if not found:
            require(not steps, str(self._folder), "all checkpoints are damaged", "remove the work directory to restart")
            return None
        parts, record, *_ = found[1]
        training = parts.pop("training")
        history = [Evaluation(*evaluation) for evaluation in record["history"]]
        return Checkpoint(TrainState(**parts, **training), record["data"], history, record["sums"])

    def close(self) -> None:
        """Waits until everything is written."""
        with self._errors_named(), jax.transfer_guard("allow"):
            self._manager.wait_until_finished()
            self._manager.close()

    def newest(self) -> int:
        """The step of the newest complete checkpoint; 0 if there is none."""
        return next(iter(steps_in(self._folder)), 0)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Raises ``InputError`` where the disk is full or the directory has been removed."""
        try:
            self._check_exists("")
            with write_errors_named(self._folder):
                yield
        except InputError:
            raise
        except Exception as error:
            self._check_exists(f" ({first_line(error)})")
            raise

    def _check_exists(self, detail: str) -> None:
        reason = f"was removed or moved during the run{detail}"
        require(self._folder.is_dir(), str(self._folder), reason, "put it back and run the same command again")

    def _rename_damaged(self, step: int, reason: str) -> None:
        with multihost.primary_first():
            if multihost.is_primary():
                names = (f"damaged.{step}" + ".again" * times for times in itertools.count())
                new = next(path for name in names if not (path := self._folder / name).exists())
                checkpoint = self._folder / str(step)
                logger.warning(f"checkpoint {checkpoint} is damaged ({reason}); renamed to {new.name}")
                checkpoint.rename(new)
        self._manager.reload()


class _KeepLatestAndBest(managers.PreservationPolicy):
    """Keeps the latest checkpoints, and the best by the history that is being saved."""

    def __init__(self, latest: int, best: int, metric: str):
        self.history: list[Evaluation] = []
        self._latest = latest
        self._best = best
        self._metric = metric

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """One answer for each of Orbax's checkpoints, which are ordered by step."""
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        evaluated = [evaluation for evaluation in self.history if evaluation.step in steps]
        best = [evaluation.step for evaluation in ranked(evaluated, self._metric)[: self._best]]
        return [step in best or step in steps[-self._latest :] for step in steps]


def save_params(folder: Path, params: Any) -> None:
    """Writes imported parameters as the checkpoint of step 0, without optimizer state; complete when this returns."""
    # Each array is copied before it is written; by default all of them are copied at once.
    largest = max(1.01 * max(leaf.nbytes for leaf in jax.tree.leaves(params)), 2**24)
    handlers = {
        "params": ocp.StandardCheckpointHandler(save_concurrent_gb=largest / 10**9),  # pyright: ignore[reportArgumentType]
        "run": ocp.JsonCheckpointHandler(),
    }
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    path = folder.absolute()
    with (
        silence_orbax(),
        write_errors_named(folder),
        ocp.CheckpointManager(path, options=options, item_handlers=handlers) as manager,
    ):
        write(manager, 0, {"params": params}, {"data": {}, "history": [], "sums": []})


def _parts(state: TrainState) -> dict[str, Any]:
    """The parts that are saved separately, so that decoding reads only what it needs."""
    training = state._asdict()
    parts = {name: training.pop(name) for name in ("params", "ema")} | {"training": training}
    return {name: tree for name, tree in parts.items() if jax.tree.leaves(tree)}
