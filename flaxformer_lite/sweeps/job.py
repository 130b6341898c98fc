"""Job of a sweep: trains one trial in a process that submitit starts."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit import JobEnvironment
from submitit.helpers import DelayedSubmission

from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps.resources import JobResources
from flaxformer_lite.sweeps.trial_dir import JobFailure, TrialDir
from flaxformer_lite.system import console, file_lock, malloc, multihost
from flaxformer_lite.system.cache_dir import enable_compilation_cache

# Modules that need jax are imported inside functions, after the job has locked its directory and limited its resources.

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Trains a trial, or resumes its run. One job at a time works in a directory; a second one exits at once.

    Attributes:
      path: the trial's directory.
      config: nested plain values; the validated config is what runs, even if its file changes.
      resources: of the machine.
      command: the command line that started the sweep, recorded with the run.
    """

    path: Path
    config: Mapping[str, Any]
    resources: JobResources
    command: Sequence[str]

    def __call__(self) -> int:
        """Returns the exit code that ``flaxformer-lite train`` would return."""
        preemption = _PreemptionHandler()
        with suppress(PermissionError):  # it leads its process group already
            os.setsid()  # otherwise Ctrl-C arrives twice, from the terminal and from the sweep; the second one kills
        environment = JobEnvironment()
        self.path.mkdir(parents=True, exist_ok=True)
        # Of the processes of a multi-process job, the first one holds the lock.
        lock = nullcontext() if environment.global_rank else file_lock.hold(TrialDir(self.path).job_lock)
        with lock as other:
            code = 0 if other else self._run(environment.num_tasks)
        preemption.requeue_if_preempted()
        return code

    def checkpoint(self) -> DelayedSubmission:
        """The job that submitit starts after a preemption: the same one, which resumes."""
        return DelayedSubmission(self)

    def _run(self, num_processes: int) -> int:
        trial_dir = TrialDir(self.path)
        trial_dir.failure.remove()
        with trial_dir.log.open("a", encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        console.configure_logging()
        logger.info(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}, process {os.getpid()} on {os.uname().nodename}")
        self.resources.apply()
        sys.argv = list(self.command)
        try:
            return self._train(num_processes)
        except InputError as error:
            logger.error(f"flaxformer-lite: error: {error}")
            code, message = 2, str(error)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            logger.exception(message)
            code = 1
        with suppress(InputError):  # a full disk
            trial_dir.failure.save(JobFailure(code, message))
        return multihost.exit_process(code)

    def _train(self, num_processes: int) -> int:
        malloc.use_single_arena()
        enable_compilation_cache()
        if num_processes > 1:
            multihost.join(None, join_timeout=300, heartbeat_timeout=50)
        from flaxformer_lite.config import parsing
        from flaxformer_lite.training import loop

        return loop.train(parsing.from_dict(self.config), self.path).exit_code


class _PreemptionHandler:
    """Makes a cluster's preemption signal save the run first, and requeue the job afterwards.

    SIGINT and SIGTERM have their default action until training starts: there is nothing to save before.
    """

    def __init__(self):
        self._preempted = False
        self._requeue: Any = signal.getsignal(signal.SIGUSR2)  # submitit's handler
        signal.signal(signal.SIGUSR2, self._receive)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP})  # the launcher blocks them

    def _receive(self, number: int, frame: Any) -> None:
        self._preempted = True
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._requeue(number, frame)
        else:
            signal.raise_signal(signal.SIGTERM)  # the training loop saves and returns

    def requeue_if_preempted(self) -> None:
        """Requeues the job, which ends the process, if it was preempted."""
        if self._preempted:
            self._requeue(signal.SIGUSR2, None)
