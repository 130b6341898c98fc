"""A job: the training of one point, in a process of its own that submitit starts."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit import JobEnvironment
from submitit.helpers import DelayedSubmission

from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps.resources import Share
from flaxformer_lite.sweeps.trial_dir import Failure, PointFolder
from flaxformer_lite.system import file_lock, malloc, multihost
from flaxformer_lite.system.cache_dir import enable_compilation_cache

# What needs jax is imported inside functions: a job first says that it is there, and takes its share of the machine.


@dataclass(frozen=True)
class Job:
    """Trains a point, or goes on where its run stopped. One at a time works in a folder; a second one ends at once.

    Attributes:
      folder: of the point.
      config: of the run, as nested plain values: what was checked is what is run, whatever becomes of the files.
      share: of the machine.
      command: the command line that all this came from, for the record.
    """

    folder: Path
    config: Mapping[str, Any]
    share: Share
    command: Sequence[str]

    def __call__(self) -> int:
        """Returns the exit code that ``flaxformer-lite train`` would give."""
        preempted = _Preempted()
        with suppress(PermissionError):  # it leads its group already
            os.setsid()  # or Ctrl-C would come twice, from the terminal and from the sweep; the second one ends a run
        environment = JobEnvironment()
        self.folder.mkdir(parents=True, exist_ok=True)
        # Of several processes of one job the first holds the lock for all.
        lock = nullcontext() if environment.global_rank else file_lock.hold(PointFolder(self.folder).job_lock)
        with lock as other:
            code = 0 if other else self._run(environment.num_tasks)
        preempted.put_back_in_the_queue()
        return code

    def checkpoint(self) -> DelayedSubmission:
        """What submitit starts after a preemption: the same, which goes on where it stopped."""
        return DelayedSubmission(self)

    def _run(self, tasks: int) -> int:
        folder = PointFolder(self.folder)
        folder.forget_failure()
        with folder.log.open("a", encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}, process {os.getpid()} on {os.uname().nodename}", flush=True)
        self.share.take()
        sys.argv = list(self.command)
        try:
            return self._train(tasks)
        except InputError as error:
            print(f"flaxformer-lite: error: {error}", file=sys.stderr)
            code, message = 2, str(error)
        except Exception as error:
            traceback.print_exception(error)
            code, message = 1, f"{type(error).__name__}: {error}"
        with suppress(InputError):  # of a full disk
            folder.save_failure(Failure(code, message))
        return multihost.exit_process(code)

    def _train(self, tasks: int) -> int:
        malloc.use_single_arena()
        enable_compilation_cache()
        if tasks > 1:
            multihost.join(None, join_timeout=300, heartbeat_timeout=50)
        from flaxformer_lite.config import parsing
        from flaxformer_lite.training import loop

        return loop.train(parsing.from_dict(self.config), self.folder).exit_code


class _Preempted:
    """Has the signal with which a cluster takes a machine back save first, and only then ask for another one.

    SIGINT and SIGTERM end a process that does not train yet, as they do by default: there is nothing to save.
    """

    def __init__(self):
        self._asked = False
        self._requeue: Any = signal.getsignal(signal.SIGUSR2)  # submitit's
        signal.signal(signal.SIGUSR2, self._receive)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP})  # which the launcher blocks

    def _receive(self, number: int, frame: Any) -> None:
        self._asked = True
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._requeue(number, frame)
        else:
            signal.raise_signal(signal.SIGTERM)  # which the training loop takes for what it is: time to save

    def put_back_in_the_queue(self) -> None:
        """Ends the process, if it was asked to; otherwise does nothing."""
        if self._asked:
            self._requeue(signal.SIGUSR2, None)
