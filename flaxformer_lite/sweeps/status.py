"""Where a point stands, read off its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flaxformer_lite.sweeps.launchers import Launcher
from flaxformer_lite.sweeps.trial_dir import PointFolder, Progress
from flaxformer_lite.sweeps.trials import Point


class Phase(StrEnum):
    """Of a point's life."""

    NEW = "new"
    QUEUED = "queued"  # submitted, not at work yet
    RUNNING = "running"
    INTERRUPTED = "interrupted"  # it goes on from its checkpoint, if a job is started
    FAILED = "failed"
    PRUNED = "pruned"  # by a search, which saw that others do better
    DONE = "done"

    @property
    def under_way(self) -> bool:
        """Whether a job has it, which no other must be started beside."""
        return self in (Phase.QUEUED, Phase.RUNNING)

    @property
    def settled(self) -> bool:
        """Whether nothing more is to become of it."""
        return self in (Phase.PRUNED, Phase.DONE)


def metric_of(point: Point) -> str:
    """By which a point is judged, as metrics.jsonl calls it."""
    return f"eval/{point.config.eval.best_metric}"


@dataclass(frozen=True)
class Standing:
    """Where a point stands.

    Attributes:
      phase: of its life.
      progress: how far its run has come.
      said: why it failed; empty where it did not.
    """

    phase: Phase
    progress: Progress
    said: str = ""


def stand(point: Point, folder: PointFolder, launcher: Launcher) -> Standing:
    """Where a point stands now."""
    metric = metric_of(point)
    if finish := folder.finish():
        return Standing(Phase.DONE, Progress(finish.step, metric, finish.best_value))
    progress = folder.progress(metric)
    if folder.at_work():
        return Standing(Phase.RUNNING, progress)
    ticket = folder.ticket()
    if ticket and ticket.launcher == launcher.name and not launcher.over(ticket):
        return Standing(Phase.QUEUED, progress)
    if finish := folder.finish():  # it may have ended since it was asked first
        return Standing(Phase.DONE, Progress(finish.step, metric, finish.best_value))
    if folder.pruned():
        return Standing(Phase.PRUNED, progress)
    if failure := folder.failure():
        return Standing(Phase.FAILED, progress, failure.message)
    return Standing(Phase.INTERRUPTED if folder.begun else Phase.NEW, progress)
