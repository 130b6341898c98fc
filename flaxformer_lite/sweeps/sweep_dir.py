"""The folder of a sweep, with a folder for each point."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from flaxformer_lite.checkpoints.work_dir import WorkDir, what
from flaxformer_lite.config import parsing
from flaxformer_lite.errors import InputError, write_errors_named
from flaxformer_lite.sweeps.trial_dir import PointFolder
from flaxformer_lite.sweeps.trials import Point
from flaxformer_lite.system import file_lock


class SweepFolder:
    """A folder with a folder for each point."""

    def __init__(self, path: Path):
        self.path = WorkDir(path).path  # which refuses addresses
        self.jobs = path / ".jobs"  # submitit's own
        self.search = path / "search.sqlite"  # optuna's, where a search chooses the points

    def of(self, point: Point) -> PointFolder:
        """The folder of a point, there or not."""
        return PointFolder(self.path / point.name)

    def check(self, points: Sequence[Point]) -> None:
        """Raises ``InputError`` where a run or another sweep lies here. More points than before are no other sweep."""
        self._check_no_run()
        if self.search.exists():
            raise InputError(f"--workdir={self.path} holds a search (--search=optuna); name another one for this sweep")
        names, there = {point.name for point in points}, self._runs()
        if strange := [folder for folder in there if folder.name not in names]:
            raise InputError(
                f"--workdir={self.path} holds another sweep: {strange[0].name}"
                + f" and {len(strange) - 1} more" * (len(strange) > 1)
                + f" {'are no points' if len(strange) > 1 else 'is no point'} of this one"
                + _how_they_differ(strange[0], points)
                + "\nname another folder for this sweep, or move those away"
            )

    def check_search(self) -> None:
        """Raises ``InputError`` where a run lies here, or a sweep whose points no search chose."""
        self._check_no_run()
        if not self.search.exists() and (there := self._runs()):
            raise InputError(
                f"--workdir={self.path} holds a sweep without a search: {there[0].name} and what else lies there; name "
                "another folder for this search"
            )

    def _check_no_run(self) -> None:
        if (self.path / "config.json").exists():
            raise InputError(f"--workdir={self.path} is the work folder of a run; name another one for the sweep")

    def _runs(self) -> list[Path]:
        return sorted(path.parent for path in self.path.glob("*/config.json"))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Makes the folder, and keeps other sweeps out of it.

        Raises:
          InputError: there is one at work, or the folder cannot be made.
        """
        with write_errors_named(self.path):
            self.jobs.mkdir(parents=True, exist_ok=True)
        with file_lock.hold(self.path / ".lock") as other:
            if other:
                raise InputError(f"--workdir={self.path}: {other} runs this sweep already; wait for it, or stop it")
            yield


def _how_they_differ(folder: Path, points: Sequence[Point]) -> str:
    """What the config there has that the point of the same overrides here has not."""
    twin = next((point for point in points if point.label == folder.name.rpartition("__")[0]), None)
    if twin is None:
        return ""
    try:
        lines = parsing.difference(what(WorkDir(folder).config()), what(twin.config))
    except InputError:  # of a version with other keys
        return ""
    return " (there → here):\n  " + "\n  ".join(lines) if lines else ""
