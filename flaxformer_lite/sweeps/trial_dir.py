"""Directory of a trial: the work directory of its run, and the files that the sweep keeps beside the run's."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

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


class Record(Generic[T]):
    """A JSON file with the fields of one named tuple."""

    def __init__(self, path: Path, of_type: type[T]):
        self._path = path
        self._of_type = of_type

    def read(self) -> T | None:
        """The stored tuple; None where there is none, or one that a version with other fields wrote."""
        try:
            return self._of_type(**json.loads(self._path.read_text("utf-8")))
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None

    def save(self, values: Any) -> None:
        with write_errors_named(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._path) as draft:
            draft.write_text(json.dumps(values._asdict()) + "\n", "utf-8")

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class TrialDir:
    """Directory of a trial.

    Attributes:
      path: of the directory.
      log: standard output and error of its jobs.
      job_lock: held by the job, from before it imports jax.
      submission: the last submitted job, unless it has ended without a result.
      failure: why the last job failed; none where it did not fail or could not write it.
      pruned: the evaluation after which the search pruned the run; no further job is started.
    """

    def __init__(self, path: Path):
        self.path = path
        self.log = path / "log.txt"
        self.job_lock = path / ".job"
        self.submission = Record(path / "job.json", Submission)
        self.failure = Record(path / "failed.json", JobFailure)
        self.pruned = Record(path / "pruned.json", MetricValue)

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
