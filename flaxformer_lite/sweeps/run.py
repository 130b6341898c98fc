"""Runs the points of a sweep: starts jobs as places get free, watches them, stops them when it is told to."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from flaxformer_lite.config import parsing
from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps.job import Job
from flaxformer_lite.sweeps.launchers import Launcher
from flaxformer_lite.sweeps.status import Phase, Standing, stand
from flaxformer_lite.sweeps.suggesters import Source, Standings
from flaxformer_lite.sweeps.sweep_dir import SweepFolder
from flaxformer_lite.sweeps.trial_dir import Ticket
from flaxformer_lite.sweeps.trials import Point

_NO_WORDS = "its job ended without a word; was it killed?"


@runtime_checkable
class Watcher(Protocol):
    """Whoever is told how things stand, several times a second."""

    def __call__(self, source: Source, standings: Standings, stopping: bool) -> None:
        """How the points of a source stand now, and whether the jobs have been told to stop."""
        ...


class Jobs:
    """The jobs of a sweep.

    What is known of them lies in the points' folders, so jobs of an earlier call are as good as those of this one.
    """

    def __init__(self, folder: SweepFolder, launcher: Launcher):
        self._folder = folder
        self._launcher = launcher
        self._tried: set[str] = set()  # the points that had a job in this call
        self._told: dict[str, int] = {}  # how often each was told to stop

    @property
    def patience(self) -> float:
        """Seconds between two looks."""
        return self._launcher.patience

    def stand(self, point: Point) -> Standing:
        """Where a point stands; one whose job of this call is over and left nothing behind has failed."""
        folder = self._folder.of(point)
        standing = stand(point, folder, self._launcher)
        if standing.phase.under_way or point.name not in self._tried:
            return standing
        folder.forget_ticket()
        silent = standing.phase in (Phase.NEW, Phase.INTERRUPTED) and point.name not in self._told
        return Standing(Phase.FAILED, standing.progress, _NO_WORDS) if silent else standing

    def tried(self, point: Point) -> bool:
        """Whether it had a job in this call; none gets two."""
        return point.name in self._tried

    def over(self, point: Point, standing: Standing) -> bool:
        """Whether no more becomes of it in this call."""
        return standing.phase.settled or (standing.phase is Phase.FAILED and self.tried(point))

    def start(self, point: Point, share: int) -> None:
        """Starts a job, with one of the launcher's shares."""
        folder = self._folder.of(point)
        folder.forget_failure()
        job = Job(folder.path.absolute(), parsing.to_dict(point.config), self._launcher.shares[share], sys.argv)
        folder.save_ticket(Ticket(self._launcher.name, self._launcher.submit(job), share))
        self._tried.add(point.name)

    def free_shares(self, under_way: Sequence[Point]) -> list[int]:
        """The numbers of the shares that none of these points has."""
        tickets = [ticket for point in under_way if (ticket := self._folder.of(point).ticket())]
        taken = {ticket.share for ticket in tickets if ticket.launcher == self._launcher.name}
        free = [i for i in range(len(self._launcher.shares)) if i not in taken]
        return free[: max(len(self._launcher.shares) - len(under_way), 0)]

    def stop(self, point: Point, times: int) -> None:
        """Has a point's job save and end; told a second time it ends at once, the third time it is killed."""
        folder = self._folder.of(point)
        if self._told.get(point.name, 0) < times and self._launcher.stop(folder, folder.ticket(), kill=times > 2):
            self._told[point.name] = times


def run(source: Source, jobs: Jobs, watch: Watcher) -> tuple[Standings, int]:
    """Runs all points that are not done, each in a job, until all are over or a signal says stop.

    Args:
      source: of the points.
      jobs: starts and stops them.
      watch: is told how they stand.

    Returns:
      How all stand in the end, and the signal that stopped the sweep, or 0.

    Raises:
      InputError: a job cannot be started, or a search has nowhere to write. The others are stopped first.
    """
    standings: dict[str, Standing] = {}
    trouble: list[InputError] = []
    with _signals() as received:
        while True:
            for point in source.points:
                if point.name not in standings or not standings[point.name].phase.settled:
                    standings[point.name] = jobs.stand(point)
            stops, busy = len(received) + len(trouble), False
            watch(source, standings, stops > 0)
            under_way = [point for point in source.points if standings[point.name].phase.under_way]
            try:
                if not trouble:
                    _learn(source, jobs, standings)
                if not stops:
                    busy = _start(source, jobs, standings, under_way)
            except InputError as error:
                trouble.append(error)
                continue
            if not under_way and not busy:
                break
            for point in under_way if stops else ():
                jobs.stop(point, stops)
            time.sleep(jobs.patience)
    if trouble:
        raise trouble[0]
    return standings, received[0] if received else 0


def _learn(source: Source, jobs: Jobs, standings: Standings) -> None:
    """Tells a source what has become of its points, and ends those that it gives up."""
    for point in source.points:
        standing = standings[point.name]
        if jobs.over(point, standing):
            source.tell(point, standing)
        elif standing.phase is Phase.RUNNING and source.hopeless(point):
            jobs.stop(point, 1)


def _start(source: Source, jobs: Jobs, standings: dict[str, Standing], under_way: Sequence[Point]) -> bool:
    """Starts as many jobs as there is room for; returns whether there was anything to do."""
    free, known, to_come = jobs.free_shares(under_way), len(source.points), source.to_come
    waiting = [point for point in source.points if _waits(point, jobs, standings)]
    source.draw(len(free) - len(waiting))
    drawn = source.points[known:]
    standings.update({point.name: jobs.stand(point) for point in drawn})  # which an earlier call may have begun
    waiting += [point for point in drawn if _waits(point, jobs, standings)]
    for point, share in zip(waiting, free, strict=False):
        jobs.start(point, share)
    return bool(waiting) or source.to_come != to_come


def _waits(point: Point, jobs: Jobs, standings: Standings) -> bool:
    phase = standings[point.name].phase
    return not phase.settled and not phase.under_way and not jobs.tried(point)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Gives a list that SIGINT and SIGTERM are put into."""
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
