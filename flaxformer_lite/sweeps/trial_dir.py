"""What lies in the folder of a point beside the run's own files, and how far the run has come."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flaxformer_lite.errors import write_errors_named
from flaxformer_lite.system import file_lock
from flaxformer_lite.system.atomic import atomic_write

if TYPE_CHECKING:
    from flaxformer_lite.checkpoints.work_dir import RunResult

_TAIL = 2**18  # bytes at the end of metrics.jsonl, some 500 lines


class Ticket(NamedTuple):
    """The job that a point was handed to.

    Attributes:
      launcher: by which one.
      id: what the launcher calls it.
      share: the number of the share of the machine that it has.
    """

    launcher: str
    id: str
    share: int


class Failure(NamedTuple):
    """Why a point's last job failed."""

    code: int
    message: str


class Pruned(NamedTuple):
    """Why a search ended a point's run before its last step.

    Attributes:
      step: of the evaluation that was the last one it looked at.
      value: of the metric that the config calls best, there; None where it was no number.
    """

    step: int
    value: float | None


class Evaluation(NamedTuple):
    """What was measured at a step; None: no number."""

    step: int
    value: float | None


class Progress(NamedTuple):
    """How far a run has come, and the last that was measured; step 0 and no name where nothing is recorded."""

    step: int
    metric: str
    value: float | None


class PointFolder:
    """The work folder of a point's run, and what the sweep writes beside the run's own files."""

    def __init__(self, path: Path):
        self.path = path
        self.log = path / "log.txt"
        self.job_lock = path / ".job"  # held by the job, from before jax is imported
        self._ticket = path / "job.json"
        self._failure = path / "failed.json"
        self._pruned = path / "pruned.json"

    @property
    def begun(self) -> bool:
        """Whether a run lies here, whatever became of it."""
        return (self.path / "config.json").exists()

    def finish(self) -> RunResult | None:
        """How the run ended; None: it has not, or not as its config says."""
        from flaxformer_lite.checkpoints.work_dir import (
            WorkDir,  # here, because a job must do much before jax is imported
        )

        return WorkDir(self.path).finish()

    def at_work(self) -> file_lock.Holder | None:
        """The process that trains here now."""
        return file_lock.holder(self.job_lock)

    def ticket(self) -> Ticket | None:
        """The job that was last submitted, unless it is known to be over."""
        return None if (values := _read(self._ticket)) is None else Ticket(**values)

    def save_ticket(self, ticket: Ticket) -> None:
        """Keeps it for a second call."""
        _write(self._ticket, ticket._asdict())

    def forget_ticket(self) -> None:
        """The job is over."""
        self._ticket.unlink(missing_ok=True)

    def failure(self) -> Failure | None:
        """Why the last job failed; None: it did not, or could not say."""
        return None if (values := _read(self._failure)) is None else Failure(**values)

    def save_failure(self, failure: Failure) -> None:
        """Keeps it for those who ask."""
        _write(self._failure, failure._asdict())

    def forget_failure(self) -> None:
        """A new job begins."""
        self._failure.unlink(missing_ok=True)

    def pruned(self) -> Pruned | None:
        """Why the run ends, or ended, before its last step; None: it does not."""
        return None if (values := _read(self._pruned)) is None else Pruned(**values)

    def save_pruned(self, pruned: Pruned) -> None:
        """No further job is to work here."""
        _write(self._pruned, pruned._asdict())

    def evaluations(self, metric: str) -> list[Evaluation]:
        """The latest ones of a metric, such as ``eval/wer``, the first of them first."""
        lines = _last_lines(self.path / "metrics.jsonl")
        return [Evaluation(line["step"], line[metric]) for line in lines if metric in line]

    def progress(self, metric: str) -> Progress:
        """Read off the end of metrics.jsonl: ``metric`` where there is one, such as ``eval/wer``, or the loss."""
        lines = _last_lines(self.path / "metrics.jsonl")
        step = lines[-1]["step"] if lines else 0
        for name in (metric, "train/loss"):
            for line in reversed(lines):
                if name in line:
                    return Progress(step, name, line[name])
        return Progress(step, "", None)


def _last_lines(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
            texts = file.read().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    lines = []
    for text in texts:
        with contextlib.suppress(ValueError):  # the first may be cut, the last still being written
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict) and "step" in line]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _write(path: Path, values: dict[str, Any]) -> None:
    with write_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(values) + "\n", "utf-8")
