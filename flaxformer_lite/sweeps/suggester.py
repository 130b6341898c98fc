"""Interface of a sweep to what chooses its trials: a fixed list, or a search that uses earlier results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from flaxformer_lite.sweeps.trial_status import TrialStatus
from flaxformer_lite.sweeps.trials import Trial

Statuses = Mapping[str, TrialStatus]  # by the trials' names


@runtime_checkable
class Suggester(Protocol):
    """Suggests trials and receives their results."""

    @property
    def trials(self) -> Sequence[Trial]:
        """The trials suggested so far, in the order in which they run."""
        ...

    @property
    def num_remaining(self) -> int:
        """How many more trials may be suggested."""
        ...

    def suggest(self, count: int) -> None:
        """Appends up to ``count`` new trials to ``trials``."""
        ...

    def should_prune(self, trial: Trial) -> bool:
        """Whether to stop a running trial early."""
        ...

    def report(self, trial: Trial, status: TrialStatus) -> None:
        """Records the final status of a trial; may be called repeatedly."""
        ...


class FixedTrials:
    """A list of trials that is known from the start."""

    num_remaining = 0

    def __init__(self, trials: Sequence[Trial]):
        self.trials = trials

    def suggest(self, count: int) -> None:
        del count

    def should_prune(self, trial: Trial) -> bool:
        del trial
        return False

    def report(self, trial: Trial, status: TrialStatus) -> None:
        del trial, status
