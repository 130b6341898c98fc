"""Status of a trial, read from its directory."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flaxformer_lite.sweeps.launchers import Launcher
from flaxformer_lite.sweeps.trial_dir import TrialDir, TrialProgress
from flaxformer_lite.sweeps.trials import Trial


class TrialState(StrEnum):
    """Life cycle of a trial."""

    NEW = "new"
    QUEUED = "queued"  # submitted, but its process has not started
    RUNNING = "running"
    INTERRUPTED = "interrupted"  # a new job resumes it from its checkpoint
    FAILED = "failed"
    PRUNED = "pruned"  # stopped early by a search
    DONE = "done"

    @property
    def is_active(self) -> bool:
        """Whether a job works on it; a second one must not be started."""
        return self in (TrialState.QUEUED, TrialState.RUNNING)

    @property
    def is_final(self) -> bool:
        """Whether no further job is needed."""
        return self in (TrialState.PRUNED, TrialState.DONE)


@dataclass(frozen=True)
class TrialStatus:
    """Status of a trial.

    Attributes:
      state: where it is in its life cycle.
      progress: the last recorded step and metric.
      message: why it failed; "" otherwise.
    """

    state: TrialState
    progress: TrialProgress
    message: str = ""


def metric_of(trial: Trial) -> str:
    """The metric that trials are ranked by, under its name in metrics.jsonl."""
    return f"eval/{trial.config.eval.best_metric}"


def read_status(trial: Trial, trial_dir: TrialDir, launcher: Launcher) -> TrialStatus:
    """Reads the current status of a trial."""
    metric = metric_of(trial)
    if result := trial_dir.result():
        return TrialStatus(TrialState.DONE, TrialProgress(result.step, metric, result.best_value))
    progress = trial_dir.progress(metric)
    if trial_dir.job_process():
        return TrialStatus(TrialState.RUNNING, progress)
    submission = trial_dir.submission.read()
    if submission and submission.launcher == launcher.name and not launcher.is_over(submission):
        return TrialStatus(TrialState.QUEUED, progress)
    if result := trial_dir.result():  # the run may have finished since the first check
        return TrialStatus(TrialState.DONE, TrialProgress(result.step, metric, result.best_value))
    if trial_dir.pruned.read():
        return TrialStatus(TrialState.PRUNED, progress)
    if failure := trial_dir.failure.read():
        return TrialStatus(TrialState.FAILED, progress, failure.message)
    return TrialStatus(TrialState.INTERRUPTED if trial_dir.has_run else TrialState.NEW, progress)
