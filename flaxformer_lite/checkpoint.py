"""Checkpoints of a run: written by Orbax in the background, each whole or not there at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from flaxformer_lite.config import TrainConfig
from flaxformer_lite.errors import InputError, full_disk_named
from flaxformer_lite.metrics import lower_is_better
from flaxformer_lite.report import say
from flaxformer_lite.train_state import TrainState


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
    """

    state: TrainState
    data: dict[str, Any]
    history: list[Evaluation]


def best(history: list[Evaluation], metric: str) -> Evaluation | None:
    """The best evaluation, the earliest of equals."""
    sign = 1 if lower_is_better(metric) else -1
    return min(history, key=lambda evaluation: sign * evaluation.value, default=None)


class Checkpoints:
    """The checkpoints of a run that trains."""

    def __init__(self, folder: Path, config: TrainConfig, metric: str):
        self._folder = folder
        keep: list[managers.PreservationPolicy] = [managers.LatestN(config.keep_latest)]
        if config.keep_best:
            sign = -1 if lower_is_better(metric) else 1
            keep.append(
                managers.BestN(
                    get_metric_fn=lambda metrics: sign * metrics["value"], n=config.keep_best, keep_checkpoints_without_metrics=False
                )
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy(keep), cleanup_tmp_directories=True
        )
        with full_disk_named(folder):
            self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, saved: Saved) -> None:
        """Begins to save; the arrays are copied before this returns, the files are written meanwhile.

        Does nothing where this step is saved already. A failed write is raised by the next ``save`` or by ``close``.
        """
        step = int(saved.state.step)
        if step in self._manager.all_steps():
            return
        now = [evaluation.value for evaluation in saved.history if evaluation.step == step]
        state = saved.state._asdict()
        with full_disk_named(self._folder):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.pop("params")),  # by itself, so that decoding reads no more
                    training=ocp.args.StandardSave(state),
                    run=ocp.args.JsonSave({"data": saved.data, "history": saved.history}),
                ),
                metrics={"value": now[0]} if now else None,
            )

    def restore(self, like: TrainState) -> Saved | None:
        """The newest sound checkpoint, laid out ``like`` a given state; None if there is none.

        Damaged ones are said, set aside under another name, and passed over.

        Raises:
          InputError: there are checkpoints, but none is sound.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return self._restore(step, like)
            except Exception as error:  # whatever a damaged file makes its reader raise
                aside = self._folder / f"damaged.{step}"
                say(f"checkpoint {self._folder / str(step)} is damaged ({_summary(error)}); set aside as {aside.name}")
                (self._folder / str(step)).rename(aside)
                self._manager.reload()
        if steps:
            raise InputError(f"{self._folder}: no sound checkpoint is left; remove the work folder to start anew")
        return None

    def _restore(self, step: int, like: TrainState) -> Saved:
        state = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
        found = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(state.pop("params")),
                training=ocp.args.StandardRestore(state),
                run=ocp.args.JsonRestore(),
            ),
        )
        history = [Evaluation(*evaluation) for evaluation in found.run["history"]]
        return Saved(TrainState(params=found.params, **found.training), found.run["data"], history)

    def close(self) -> None:
        """Waits until everything is written."""
        with full_disk_named(self._folder):
            self._manager.wait_until_finished()
            self._manager.close()


def restore_params(folder: Path, which: str | int, metric: str, like: Any) -> tuple[int, Any]:
    """Step and parameters of one checkpoint.

    Args:
      folder: the checkpoints of a run.
      which: ``best`` by the metric (the latest, where nothing has been evaluated), ``latest``, or a step. Where best or
        latest is damaged, that is said and the next one taken.
      metric: by which the run was evaluated.
      like: parameters as ``jax.ShapeDtypeStruct`` with shardings: where they shall be.

    Raises:
      InputError: there is no such checkpoint, or none that is sound.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there are no checkpoints; has the run been trained?")
    with ocp.CheckpointManager(folder.absolute(), options=ocp.CheckpointManagerOptions(read_only=True)) as manager:
        steps = _order(manager, which, metric)
        for step in steps:
            try:
                found = manager.restore(step, args=ocp.args.Composite(params=ocp.args.StandardRestore(like)))
                return step, found.params
            except Exception as error:  # whatever a damaged file makes its reader raise
                if step == which:
                    raise InputError(f"checkpoint {folder / str(step)} is damaged ({_summary(error)})") from error
                say(f"checkpoint {folder / str(step)} is damaged ({_summary(error)}); passed over")
    if not steps:
        raise InputError(f"{folder}: there are no checkpoints yet")
    raise InputError(f"{folder}: no sound checkpoint is left of steps {sorted(steps)}")


def _order(manager: ocp.CheckpointManager, which: str | int, metric: str) -> list[int]:
    """The steps to try, in turn."""
    steps = sorted(manager.all_steps(), reverse=True)
    if isinstance(which, int):
        if which not in steps:
            raise InputError(f"{manager.directory}: there is no checkpoint of step {which}; there are {steps[::-1]}")
        return [which]
    if which == "latest":
        return steps
    evaluated = [Evaluation(step, metrics["value"]) for step in steps if (metrics := _metrics(manager, step))]
    sign = 1 if lower_is_better(metric) else -1
    ranked = [evaluation.step for evaluation in sorted(evaluated, key=lambda e: (sign * e.value, e.step))]
    return ranked + [step for step in steps if step not in ranked]


def _metrics(manager: ocp.CheckpointManager, step: int) -> dict[str, float] | None:
    try:
        return manager.metrics(step)
    except Exception:  # a damaged file; restoring this step will say so
        return None


def _summary(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
