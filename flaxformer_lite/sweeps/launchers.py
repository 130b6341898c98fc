"""Where jobs run: processes of this machine, or Slurm's. Both are submitit's executors."""

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
from flaxformer_lite.sweeps.resources import Share, shares
from flaxformer_lite.sweeps.trial_dir import PointFolder, Ticket

_YEAR = 365 * 24 * 60  # minutes
_DAY = 24 * 60
_REQUEUES = 1_000  # submitit's limit; a run that goes on loses nothing


@runtime_checkable
class Launcher(Protocol):
    """Starts and stops jobs.

    Attributes:
      name: as ``--launcher`` says.
      shares: what each of the jobs that run at once may use.
      patience: seconds between two looks at all jobs.
    """

    name: str
    shares: list[Share]
    patience: float

    def submit(self, job: Job) -> str:
        """Starts a job, or queues it; returns what to call it."""
        ...

    def over(self, ticket: Ticket) -> bool:
        """Whether a job that this launcher submitted, perhaps in an earlier call, is neither queued nor running."""
        ...

    def stop(self, folder: PointFolder, ticket: Ticket | None, kill: bool) -> bool:
        """Has what works in a folder save and end; ``kill``: end at once. What is queued at a cluster never starts.

        Returns:
          Whether there was something to tell it to.
        """
        ...


class Local:
    """Processes of this machine, each with its share of cores and GPUs."""

    name = "local"
    patience = 0.2

    def __init__(self, folder: Path, parallel: int):
        self.shares = shares(parallel)
        self._folder = folder
        self._jobs: dict[str, LocalJob[int]] = {}

    def submit(self, job: Job) -> str:
        """Starts a job in a process that outlives this one."""
        with write_errors_named(self._folder), _deaf_children():
            started: Any = self._executor.submit(job)
        self._jobs[started.job_id] = started
        return started.job_id

    def over(self, ticket: Ticket) -> bool:
        """Whether the process has ended; one of an earlier call is known by the lock on its folder alone."""
        started = self._jobs.get(ticket.id)
        return started is None or started.done()

    def stop(self, folder: PointFolder, ticket: Ticket | None, kill: bool) -> bool:
        """Sends a signal to the process that trains there."""
        del ticket
        holder = folder.at_work()
        if not holder or not holder.pid or holder.host != socket.gethostname():
            return False
        with suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGKILL if kill else signal.SIGTERM)
        return True

    @cached_property
    def _executor(self) -> LocalExecutor:
        executor = LocalExecutor(self._folder)  # which makes the folder
        executor.update_parameters(timeout_min=_YEAR)  # otherwise two minutes
        return executor


class Slurm:
    """Jobs of a Slurm cluster whose machines see the folder."""

    name = "slurm"
    patience = 5.0

    def __init__(self, folder: Path, parallel: int, settings: Mapping[str, Any]):
        if missing := [name for name in ("sbatch", "srun", "scancel") if not shutil.which(name)]:
            raise InputError(
                f"--launcher=slurm: there is no {missing[0]} on this machine; run it where Slurm is, or leave the flag "
                "out to run the jobs here"
            )
        known = SlurmExecutor._valid_parameters()
        for key in settings:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                raise InputError(
                    f"--slurm={key}: there is no such setting"
                    + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}")
                )
        self.shares = [Share()] * parallel  # Slurm shares out itself
        self._executor = SlurmExecutor(folder, max_num_timeout=_REQUEUES)
        self._executor.update_parameters(**{"time": _DAY, "job_name": "flaxformer-lite", **settings})

    def submit(self, job: Job) -> str:
        """Queues a job."""
        try:
            with write_errors_named(self._executor.folder):
                return self._executor.submit(job).job_id
        except (FailedJobError, FailedSubmissionError) as error:
            raise InputError(f"--launcher=slurm: sbatch refused the job: {error}") from error

    def over(self, ticket: Ticket) -> bool:
        """As its result in the folder or Slurm's accounting says, which is asked now and then."""
        return SlurmJob(self._executor.folder, ticket.id).done()

    def stop(self, folder: PointFolder, ticket: Ticket | None, kill: bool) -> bool:
        """Cancels what is queued, and sends a signal to what runs."""
        del folder
        if not ticket or ticket.launcher != self.name:
            return False
        for flags in (["--state=PENDING"], [] if kill else ["--signal=TERM"]):
            subprocess.run(["scancel", *flags, ticket.id], capture_output=True, check=False)
        return True


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started in here do not hear Ctrl-C or the end of the terminal.

    The controller that submitit puts before each job would kill it a second after Ctrl-C; the sweep stops it better. A
    blocked signal stays blocked in children, and one that comes meanwhile is only late.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
