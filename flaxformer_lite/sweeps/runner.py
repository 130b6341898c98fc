"""Runs the trials of a sweep: starts jobs as slots become free, polls them, and stops them on a signal."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from flaxformer_lite.config import parsing
from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps.job import Job
from flaxformer_lite.sweeps.launchers import Launcher
from flaxformer_lite.sweeps.suggester import Statuses, Suggester
from flaxformer_lite.sweeps.sweep_dir import SweepDir
from flaxformer_lite.sweeps.trial_dir import Submission
from flaxformer_lite.sweeps.trial_status import TrialState, TrialStatus, read_status
from flaxformer_lite.sweeps.trials import Trial

Display = Callable[[Suggester, Statuses, bool], None]  # the last argument: whether the jobs are being stopped

_NO_MESSAGE = "its job ended without an error message; it may have been killed"


class JobManager:
    """Starts and stops the jobs of a sweep.

    Their state is read from the trials' directories, so that jobs of an earlier call are treated alike.
    """

    def __init__(self, sweep_dir: SweepDir, launcher: Launcher):
        self._sweep_dir = sweep_dir
        self._launcher = launcher
        self._attempted: set[str] = set()  # trials that had a job in this call
        self._stop_requests: dict[str, int] = {}

    @property
    def poll_seconds(self) -> float:
        return self._launcher.poll_seconds

    def status(self, trial: Trial) -> TrialStatus:
        """The status of a trial; one whose job of this call ended without a result has failed."""
        trial_dir = self._sweep_dir.trial_dir(trial)
        status = read_status(trial, trial_dir, self._launcher)
        if status.state.is_active or trial.name not in self._attempted:
            return status
        trial_dir.submission.remove()
        unfinished = status.state in (TrialState.NEW, TrialState.INTERRUPTED)
        if unfinished and trial.name not in self._stop_requests:
            return TrialStatus(TrialState.FAILED, status.progress, _NO_MESSAGE)
        return status

    def is_waiting(self, trial: Trial, status: TrialStatus) -> bool:
        """Whether a job is to be started; a trial gets one job per call."""
        return not (status.state.is_final or status.state.is_active or trial.name in self._attempted)

    def is_over(self, trial: Trial, status: TrialStatus) -> bool:
        """Whether the trial has its final status of this call."""
        return status.state.is_final or (status.state is TrialState.FAILED and trial.name in self._attempted)

    def start(self, trial: Trial, slot: int) -> None:
        """Starts a job in one of the launcher's slots."""
        trial_dir = self._sweep_dir.trial_dir(trial)
        trial_dir.failure.remove()
        job = Job(trial_dir.path.absolute(), parsing.to_dict(trial.config), self._launcher.slots[slot], sys.argv)
        trial_dir.submission.save(Submission(self._launcher.name, self._launcher.submit(job), slot))
        self._attempted.add(trial.name)

    def free_slots(self, active: Sequence[Trial]) -> list[int]:
        """The slots that no active trial occupies."""
        submissions = [found for trial in active if (found := self._sweep_dir.trial_dir(trial).submission.read())]
        taken = {found.slot for found in submissions if found.launcher == self._launcher.name}
        free = [i for i in range(len(self._launcher.slots)) if i not in taken]
        return free[: max(len(self._launcher.slots) - len(active), 0)]

    def stop(self, trial: Trial, requests: int) -> None:
        """Makes a trial's job save and exit; the second request makes it exit at once, the third one kills it."""
        trial_dir = self._sweep_dir.trial_dir(trial)
        if self._stop_requests.get(trial.name, 0) < requests and self._launcher.stop(
            trial_dir, trial_dir.submission.read(), kill=requests > 2
        ):
            self._stop_requests[trial.name] = requests


def run_trials(suggester: Suggester, jobs: JobManager, display: Display) -> tuple[Statuses, int]:
    """Runs all trials that are not done, each in a job, until all are over or a signal arrives.

    Returns the final status of each trial, and the signal that stopped the sweep, or 0.

    Raises:
      InputError: a job cannot be started, or the study cannot be written. The other jobs are stopped first.
    """
    statuses: dict[str, TrialStatus] = {}
    errors: list[InputError] = []
    with _caught_signals() as signals:
        while True:
            for trial in suggester.trials:
                if trial.name not in statuses or not statuses[trial.name].state.is_final:
                    statuses[trial.name] = jobs.status(trial)
            stop_requests, busy = len(signals) + len(errors), False
            display(suggester, statuses, stop_requests > 0)
            active = [trial for trial in suggester.trials if statuses[trial.name].state.is_active]
            try:
                if not errors:
                    _report(suggester, jobs, statuses)
                if not stop_requests:
                    busy = _start_waiting(suggester, jobs, statuses, active)
            except InputError as error:
                errors.append(error)
                continue
            if not active and not busy:
                break
            for trial in active if stop_requests else ():
                jobs.stop(trial, stop_requests)
            time.sleep(jobs.poll_seconds)
    if errors:
        raise errors[0]
    return statuses, signals[0] if signals else 0


def _report(suggester: Suggester, jobs: JobManager, statuses: Statuses) -> None:
    """Reports finished trials to the suggester, and stops those that it prunes."""
    for trial in suggester.trials:
        status = statuses[trial.name]
        if jobs.is_over(trial, status):
            suggester.report(trial, status)
        elif status.state is TrialState.RUNNING and suggester.should_prune(trial):
            jobs.stop(trial, 1)


def _start_waiting(
    suggester: Suggester, jobs: JobManager, statuses: dict[str, TrialStatus], active: Sequence[Trial]
) -> bool:
    """Starts as many jobs as there are free slots; returns whether there was anything to do."""
    free, before, num_remaining = jobs.free_slots(active), len(suggester.trials), suggester.num_remaining
    waiting = [trial for trial in suggester.trials if jobs.is_waiting(trial, statuses[trial.name])]
    suggester.suggest(len(free) - len(waiting))
    new = suggester.trials[before:]
    statuses.update({trial.name: jobs.status(trial) for trial in new})  # an earlier call may have started them
    waiting += [trial for trial in new if jobs.is_waiting(trial, statuses[trial.name])]
    for trial, slot in zip(waiting, free, strict=False):
        jobs.start(trial, slot)
    return bool(waiting) or suggester.num_remaining != num_remaining


@contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """Yields a list to which received SIGINT and SIGTERM are appended."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda given, _: received.append(given))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
