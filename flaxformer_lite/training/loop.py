"""The training loop, and the entry point of all training."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax

from flaxformer_lite.checkpoints import run_provenance
from flaxformer_lite.checkpoints.checkpoint_manager import Checkpoints
from flaxformer_lite.checkpoints.layer_layout import to_separate_layers
from flaxformer_lite.checkpoints.storage import silence_orbax
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.monitoring.metric_writer import open_writer
from flaxformer_lite.monitoring.profiler import Profiler
from flaxformer_lite.monitoring.training_metrics import Progress
from flaxformer_lite.monitoring.utilization import StepTiming, count_tokens
from flaxformer_lite.system import malloc, multihost
from flaxformer_lite.training.evaluator import Evaluator
from flaxformer_lite.training.run_state import RunState
from flaxformer_lite.training.setup import compile_update, log_run_summary, prepare, restore_or_init
from flaxformer_lite.training.stop_signals import StopSignals

logger = logging.getLogger(__name__)


class TrainResult(NamedTuple):
    """The end of a call of ``train``.

    Attributes:
      step: the last step.
      best_step: the step with the best evaluation; 0 where none was evaluated.
      best_value: the value of ``eval.best_metric`` there; None where it is not finite or there is none.
      signal: the signal that stopped the run before its end; 0: it is finished.
    """

    step: int
    best_step: int
    best_value: float | None
    signal: int

    @property
    def exit_code(self) -> int:
        """0, or 128 plus the signal."""
        return 128 + self.signal if self.signal else 0


def train(
    config: Config,
    workdir: Path | str,
    profile_steps: tuple[int, int] = (0, 0),
    reference: Path | str | None = None,
) -> TrainResult:
    """Trains a model, or resumes the run in the work directory.

    SIGINT and SIGTERM stop the run after the current step, and everything is saved.

    Args:
      config: of the run.
      workdir: its work directory.
      profile_steps: first and last step to trace with the profiler; (0, 0): none.
      reference: the work directory of a run to reproduce, whose data and teachers must be the same; None: its own.

    Raises:
      InputError: config, data or directory are invalid, before anything is compiled; or the disk is full or the loss
        diverges, where everything up to the last checkpoint is kept.
    """
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        folder = WorkDir(workdir)
        reference_dir = WorkDir(reference or workdir)
        setup = prepare(config, folder, reference_dir)
        log_run_summary(setup)
        layout = setup.layout

        stack.enter_context(folder.alone())
        stack.enter_context(silence_orbax())
        checkpoints = stack.enter_context(Checkpoints(folder.checkpoints, config.train, config.eval.best_metric))
        multihost.set_abort_message(partial(_abort_message, checkpoints))
        run = RunState(config, setup.data, layout.process_shard)
        state = restore_or_init(config, setup, checkpoints, run)
        run_provenance.note_start(folder, reference_dir, config, run.step)

        update, peak_time = compile_update(config, setup)
        writer = stack.enter_context(open_writer(folder.path, run.step))
        evaluate = Evaluator(config, setup.data, layout.mesh_layout, writer)
        schedule = setup.training.schedule
        progress = Progress(config, schedule, writer, run.skipped, run.sums, lambda: update.compile_seconds)
        profiler = Profiler(*(profile_steps if multihost.is_primary() else (0, 0)), folder.path / "profile")
        profiler.check(run.step, config.train.steps)
        stack.callback(profiler.close)

        stack.enter_context(signals.deferred())
        stack.enter_context(jax.transfer_guard("disallow"))
        agree = multihost.MaxOverProcesses()
        while not (stop_signal := agree(signals.received)) and not run.is_finished:
            profiler.before(run.step + 1, progress.catch_up)
            start = time.monotonic()
            batch = next(run.batches)
            timing = StepTiming(time.monotonic() - start, peak_time(batch))
            state, (sums, stats) = update(state, layout.shard_batch(batch))
            run.step += 1
            progress.add(run.step, sums, stats, timing, count_tokens(batch))
            profiler.after(run.step, progress.catch_up)

            is_eval_step = run.step % config.train.eval_every == 0 or run.step == config.train.steps
            if is_eval_step or run.step % config.train.save_every == 0:
                progress.catch_up()
                if is_eval_step:
                    run.add_evaluation(evaluate(run.step, to_separate_layers(layout.to_global(state).eval_params)))
                checkpoints.save(run.to_checkpoint(layout.to_global(state), progress.sums))
                malloc.trim()
                progress.reset_clock()
        progress.catch_up()
        checkpoints.save(run.to_checkpoint(layout.to_global(state), progress.sums))

    if run.is_finished:
        folder.save_finish(run.result())
    result = TrainResult(*run.result(), stop_signal)
    _log_result(config, folder, result)
    return result


def _abort_message(checkpoints: Checkpoints) -> str:
    return (
        f"another process is gone (or the runtime failed: its own message is above), so this one ends; the same "
        f"command on all of them resumes from step {checkpoints.newest():,}"
    )


def _log_result(config: Config, folder: WorkDir, result: TrainResult) -> None:
    metric, best = config.eval.best_metric, result.best_value
    if result.signal:
        logger.info(f"stopped and saved at step {result.step:,}; the same command resumes from there")
    elif result.best_step:
        early = f" (no better {metric} in {config.train.patience} evaluations)" * (result.step < config.train.steps)
        value = "nan" if best is None else f"{best:.4g}"
        logger.info(
            f"done at step {result.step:,}{early}; best {metric} {value} at step {result.best_step:,}; all in "
            f"{folder.path}"
        )
