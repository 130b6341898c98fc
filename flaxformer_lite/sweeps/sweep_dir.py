"""Directory of a sweep, with a subdirectory for each trial."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from flaxformer_lite.checkpoints.work_dir import WorkDir, fixed_values
from flaxformer_lite.config import parsing
from flaxformer_lite.errors import InputError, require, write_errors_named
from flaxformer_lite.sweeps.trial_dir import TrialDir
from flaxformer_lite.sweeps.trials import Trial
from flaxformer_lite.system import file_lock

_REMEDY = "choose another directory for this sweep"


class SweepDir:
    """Directory of a sweep.

    Attributes:
      jobs: submitit's own files.
      study: optuna's database, where a search suggests the trials.
    """

    def __init__(self, path: Path):
        self.path = WorkDir(path).path  # raises for URLs
        self.jobs = path / ".jobs"
        self.study = path / "search.sqlite"

    def trial_dir(self, trial: Trial) -> TrialDir:
        """The directory of a trial, which need not exist."""
        return TrialDir(self.path / trial.name)

    def check_trials(self, trials: Sequence[Trial]) -> None:
        """Raises ``InputError`` where a run or another sweep is stored here; the same sweep may have grown."""
        self._check_no_run()
        require(not self.study.exists(), f"{self.path}", "contains a search (search.sqlite)", _REMEDY)
        names = {trial.name for trial in trials}
        if unknown := [path for path in self._runs() if path.name not in names]:
            more = f" and {len(unknown) - 1} more" * (len(unknown) > 1)
            raise InputError(
                f"{self.path}",
                f"contains another sweep: {unknown[0].name}{more} {'are' if more else 'is'} not among these trials",
                f"{_REMEDY}, or move the other one{_differences(unknown[0], trials)}",
            )

    def check_search(self) -> None:
        """Raises ``InputError`` where a run, or a sweep without a search, is stored here."""
        self._check_no_run()
        if not self.study.exists() and (runs := self._runs()):
            raise InputError(f"{self.path}", f"contains a sweep without a search ({runs[0].name}, …)", _REMEDY)

    def _check_no_run(self) -> None:
        require(not (self.path / "config.json").exists(), f"{self.path}", "is the work directory of a run", _REMEDY)

    def _runs(self) -> list[Path]:
        return sorted(path.parent for path in self.path.glob("*/config.json"))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Creates the directory and keeps other sweeps out of it.

        Raises:
          InputError: another process runs this sweep, or the directory cannot be created.
        """
        with write_errors_named(self.path):
            self.jobs.mkdir(parents=True, exist_ok=True)
        with file_lock.hold(self.path / ".lock") as other:
            if other:
                raise InputError(f"{self.path}", f"{other} runs this sweep already", "wait for it, or stop it")
            yield


def _differences(path: Path, trials: Sequence[Trial]) -> str:
    """Lists the config keys in which a stored run differs from the trial with the same overrides."""
    same = next((trial for trial in trials if trial.label == path.name.rpartition("__")[0]), None)
    if same is None:
        return ""
    try:
        lines = parsing.difference(fixed_values(WorkDir(path).config()), fixed_values(same.config))
    except InputError:  # another version's config
        return ""
    return "; differences (stored → here):\n  " + "\n  ".join(lines) if lines else ""
