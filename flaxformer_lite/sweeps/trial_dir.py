"""Directory of a trial: the work directory of its run, and the files that the sweep keeps beside the run's."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from flaxformer_lite.errors import write_errors_named
from flaxformer_lite.system import file_lock
from flaxformer_lite.system.atomic import atomic_write

if TYPE_CHECKING:
    from flaxformer_lite.checkpoints.work_dir import RunResult

_TAIL = 2**18  # bytes at the end of metrics.jsonl, about 500 lines

T = TypeVar("T")


class Submission(NamedTuple):
    """The job that a trial was last submitted as.

    Attributes:
      launcher: name of the launcher.
      id: the launcher's name of the job.
      slot: index of the job's resources in ``Launcher.slots``.
    """

    launcher: str
    id: str
    slot: int


class JobFailure(NamedTuple):
    """Exit code and error message of a trial's last job."""

    code: int
    message: str


class MetricValue(NamedTuple):
    """Value of a metric at a step; None where it was not finite."""

    step: int
    value: float | None


class TrialProgress(NamedTuple):
    """Last recorded step and metric of a run; step 0 and no metric where nothing is recorded."""

    step: int
    metric: str
    value: float | None


class TrialDir:
    """Directory of a trial."""

    def __init__(self, path: Path):
        self.path = path
        self.log = path / "log.txt"
        self.job_lock = path / ".job"  # held by the job, from before it imports jax
        self._submission = path / "job.json"
        self._failure = path / "failed.json"
        self._pruned = path / "pruned.json"

    @property
    def has_run(self) -> bool:
        """Whether a run was started here, whatever its state."""
        return (self.path / "config.json").exists()

    def result(self) -> RunResult | None:
        """The result of the run; None where it has not finished, or has not finished as its config requires."""
        from flaxformer_lite.checkpoints.work_dir import WorkDir  # here: a job does much before jax is imported

        return WorkDir(self.path).finish()

    def job_process(self) -> file_lock.Holder | None:
        """The process that trains here now."""
        return file_lock.holder(self.job_lock)

    def submission(self) -> Submission | None:
        """The last submitted job, unless ``forget_submission`` was called."""
        return _read(self._submission, Submission)

    def save_submission(self, submission: Submission) -> None:
        _write(self._submission, submission)

    def forget_submission(self) -> None:
        self._submission.unlink(missing_ok=True)

    def failure(self) -> JobFailure | None:
        """Why the last job failed; None where it did not fail or could not write it."""
        return _read(self._failure, JobFailure)

    def save_failure(self, failure: JobFailure) -> None:
        _write(self._failure, failure)

    def forget_failure(self) -> None:
        self._failure.unlink(missing_ok=True)

    def pruned(self) -> MetricValue | None:
        """The evaluation after which the search pruned the run; None where it did not."""
        return _read(self._pruned, MetricValue)

    def save_pruned(self, last: MetricValue) -> None:
        """Marks the trial as pruned; no further job is started."""
        _write(self._pruned, last)

    def evaluations(self, metric: str) -> list[MetricValue]:
        """The latest recorded values of a metric, such as ``eval/wer``, oldest first."""
        lines = _last_lines(self.path / "metrics.jsonl")
        return [MetricValue(line["step"], line[metric]) for line in lines if metric in line]

    def progress(self, metric: str) -> TrialProgress:
        """The last value of ``metric`` in metrics.jsonl, or of the training loss where there is none yet."""
        lines = _last_lines(self.path / "metrics.jsonl")
        step = lines[-1]["step"] if lines else 0
        for name in (metric, "train/loss"):
            for line in reversed(lines):
                if name in line:
                    return TrialProgress(step, name, line[name])
        return TrialProgress(step, "", None)


def _last_lines(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
            texts = file.read().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    lines = []
    for text in texts:
        with contextlib.suppress(ValueError, RecursionError):  # the first may be cut, the last incomplete
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict) and isinstance(line.get("step"), int)]


def _read(path: Path, of_type: type[T]) -> T | None:
    try:
        return of_type(**json.loads(path.read_text("utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None  # TypeError: written by a version with other fields


def _write(path: Path, values: Any) -> None:
    with write_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(values._asdict()) + "\n", "utf-8")
