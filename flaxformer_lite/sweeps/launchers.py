"""Launchers of jobs: processes on this machine, or Slurm. Both are submitit executors."""

from __future__ import annotations

import difflib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from submitit import LocalExecutor, SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.local.local import LocalJob
from submitit.slurm.slurm import SlurmJob

from flaxformer_lite.errors import InputError, write_errors_named
from flaxformer_lite.sweeps.job import Job
from flaxformer_lite.sweeps.resources import JobResources, split_resources
from flaxformer_lite.sweeps.trial_dir import Submission, TrialDir

_YEAR = 365 * 24 * 60  # minutes
_DAY = 24 * 60
_MAX_REQUEUES = 1_000  # submitit's limit; a requeued run resumes from its checkpoint


@runtime_checkable
class Launcher(Protocol):
    """Starts and stops jobs.

    Attributes:
      slots: resources of each concurrent job.
      poll_seconds: interval between two checks of all jobs.
    """

    name: str
    slots: list[JobResources]
    poll_seconds: float

    def submit(self, job: Job) -> str:
        """Starts or queues a job; returns its id."""
        ...

    def is_over(self, submission: Submission) -> bool:
        """Whether a job of this launcher, perhaps of an earlier call, is neither queued nor running."""
        ...

    def stop(self, trial_dir: TrialDir, submission: Submission | None, kill: bool) -> bool:
        """Makes the job of a directory save and exit, or exit at once (``kill``); a queued job never starts.

        Returns whether there was a job to stop.
        """
        ...


class LocalLauncher:
    """Processes on this machine, which outlive the sweep's own process."""

    name = "local"
    poll_seconds = 0.2

    def __init__(self, path: Path, parallel: int):
        self.slots = split_resources(parallel)
        self._path = path
        self._jobs: dict[str, LocalJob[int]] = {}

    def submit(self, job: Job) -> str:
        with write_errors_named(self._path), _signals_blocked_in_children():
            started: Any = self._executor.submit(job)
        self._jobs[started.job_id] = started
        return started.job_id

    def is_over(self, submission: Submission) -> bool:
        started = self._jobs.get(submission.id)  # None: of an earlier call, whose jobs are found by their lock alone
        return started is None or started.done()

    def stop(self, trial_dir: TrialDir, submission: Submission | None, kill: bool) -> bool:
        del submission
        process = trial_dir.job_process()
        if not process or not process.pid or process.host != socket.gethostname():
            return False
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
        return True

    @cached_property
    def _executor(self) -> LocalExecutor:
        executor = LocalExecutor(self._path)  # creates the directory
        executor.update_parameters(timeout_min=_YEAR)  # the default is two minutes
        return executor


class SlurmLauncher:
    """Jobs of a Slurm cluster whose machines share the file system.

    Raises:
      InputError: Slurm is not installed here, or it has no such parameter.
    """

    name = "slurm"
    poll_seconds = 5.0

    def __init__(self, path: Path, parallel: int, parameters: Mapping[str, Any]):
        if missing := [name for name in ("sbatch", "srun", "scancel") if not shutil.which(name)]:
            raise InputError(
                "launcher 'slurm'",
                f"there is no {missing[0]} on this machine",
                "run the sweep on a machine with Slurm, or use the local launcher",
            )
        known = SlurmExecutor._valid_parameters()
        for key in parameters:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
                raise InputError("launcher 'slurm'", f"there is no parameter {key!r}", remedy)
        self.slots = [JobResources()] * parallel  # Slurm assigns cores and GPUs
        self._executor = SlurmExecutor(path, max_num_timeout=_MAX_REQUEUES)
        self._executor.update_parameters(**{"time": _DAY, "job_name": "flaxformer-lite", **parameters})

    def submit(self, job: Job) -> str:
        try:
            with write_errors_named(self._executor.folder):
                return self._executor.submit(job).job_id
        except (FailedJobError, FailedSubmissionError) as error:
            raise InputError("launcher 'slurm'", f"sbatch refused the job: {error}") from error

    def is_over(self, submission: Submission) -> bool:
        return SlurmJob(self._executor.folder, submission.id).done()

    def stop(self, trial_dir: TrialDir, submission: Submission | None, kill: bool) -> bool:
        del trial_dir
        if not submission or submission.launcher != self.name:
            return False
        for flags in (["--state=PENDING"], [] if kill else ["--signal=TERM"]):
            subprocess.run(["scancel", *flags, submission.id], capture_output=True, check=False)
        return True


@contextmanager
def _signals_blocked_in_children() -> Iterator[None]:
    """Processes started here ignore Ctrl-C and hangup.

    Otherwise submitit's controller kills each job a second after Ctrl-C, before it can save. Children inherit the
    blocked signals; in this process they are only delayed.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
