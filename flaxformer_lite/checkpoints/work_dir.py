"""The work folder of a run: its resolved config and vocabularies, all that decoding needs beside the checkpoints."""

from __future__ import annotations

import contextlib
import functools
import json
import operator
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flaxformer_lite.config import parsing
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError, write_errors_named
from flaxformer_lite.system import file_lock, multihost
from flaxformer_lite.system.atomic import atomic_write

if TYPE_CHECKING:
    from flaxformer_lite.data.vocabularies.base import Vocabulary

# What may change between two starts of one run: where and in which parts it is computed, not what.
RESUMABLE_KEYS = (
    "mesh",
    "logical_axis_rules",
    "parallel",
    "model.remat",
    "model.scan_layers",
    "train.grad_accum_steps",
    "train.max_compiles",
)
_VISIBLE_WITHIN = 70  # seconds; a network file system may keep for a minute that a file does not exist


class RunResult(NamedTuple):
    """How a run ended.

    Attributes:
      step: the last one.
      best_step: the best one of those that were evaluated; 0: none was.
      best_value: of the metric that the config calls best; None where there is no such number.
    """

    step: int
    best_step: int
    best_value: float | None


class WorkDir:
    """A folder and the names of the files in it."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if re.match(r"\w{2,}:/", str(path)):
            raise InputError(
                f"--workdir={path}: must be a folder of a file system; mount the bucket, or name another place"
            )
        self.checkpoints = self.path / "checkpoints"
        self._config = self.path / "config.json"
        self._vocabularies = (self.path / "source.vocabulary.json", self.path / "target.vocabulary.json")
        self._teachers = self.path / "teachers.json"
        self._provenance = self.path / "provenance.json"
        self._finish = self.path / "finished.json"
        self._lock = self.path / ".lock"
        self.published = self.path / "published"  # the files that an imported model came with, beside its weights

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps every other run out of this folder; of several processes of one run, the first does.

        Raises:
          InputError: another run is at work in it.
        """
        if not multihost.is_primary():
            yield
            return
        with file_lock.hold(self._lock) as other:
            if other:
                raise InputError(
                    f"--workdir={self.path}: {other} trains in this folder already; wait for it, stop it, or name "
                    "another folder"
                )
            yield

    def claim(self, config: Config) -> bool:
        """Makes the folder this config's own; returns whether it was so already.

        Raises:
          InputError: it holds a run of another config (the message is the difference), or cannot be written; or this is
            one of several processes, and sees nothing of what the first one wrote.
        """
        if not multihost.is_primary():
            self._await_config()
        if not self._config.exists():
            with write_errors_named(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            self._take_along(config.train.init_from)
            self._write(self._config, parsing.to_dict(config))
            return False
        saved, given = (what(c) for c in (self.config(), config))
        if lines := parsing.difference(saved, given):
            raise InputError(
                f"--workdir={self.path} holds a run with another config (there → here):\n  "
                + "\n  ".join(lines)
                + "\nname another folder for this run, or undo the difference to go on with that one"
            )
        return True

    def _await_config(self) -> None:
        end = time.monotonic() + _VISIBLE_WITHIN
        while not self._config.exists():
            if time.monotonic() > end:
                raise InputError(
                    f"--workdir={self.path}: what process 0 wrote there is not seen here; all processes need one "
                    "folder, on a file system that their machines share"
                )
            time.sleep(0.5)

    def config(self) -> Config:
        """The config of the run that lies here.

        Raises:
          InputError: there is none, or its keys are not those of this version.
        """
        values = self._read(self._config)
        if "model_type" in values:
            raise InputError(
                f"--workdir={self.path} is the folder of a published model; make a work folder of it: "
                f"flaxformer-lite import --source={self.path} --workdir=FOLDER"
            )
        try:
            return parsing.from_dict(values)
        except InputError as error:
            raise InputError(
                f"{self._config} is not a config of this version ({error}); use the version that the run was made with"
            ) from error

    def save_vocabularies(self, source: Vocabulary, target: Vocabulary) -> None:
        """Keeps what maps text to ids.

        Raises:
          InputError: other vocabularies lie here: the training data are no longer those that the run began with.
        """
        for path, kept in zip(self._vocabularies, (source, target), strict=True):
            values = kept.to_json()
            if path.exists() and self._read(path) != json.loads(json.dumps(values)):
                raise InputError(
                    f"{path} is not the vocabulary that the training data give now: they have changed since this run "
                    "began; name another folder for a run on these data"
                )
            self._write(path, values)

    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """The source and the target vocabulary.

        Raises:
          InputError: there are none.
        """
        from flaxformer_lite.data.vocabularies import saved  # here, because SentencePiece takes time to import

        source, target = (saved.from_json(self._read(path)) for path in self._vocabularies)
        return source, target

    def save_data(self, fingerprint: dict[str, Any]) -> None:
        """Keeps what tells the data of this run from others.

        Raises:
          InputError: the run that lies here has other data.
        """
        self.check_data(fingerprint)
        if "data" not in (record := self._record()):
            self._write(self._provenance, record | {"data": fingerprint})

    def check_data(self, fingerprint: dict[str, Any]) -> None:
        """Raises InputError where the run that lies here has other data, with what differs."""
        if lines := parsing.difference(self._record().get("data", fingerprint), fingerprint):
            raise InputError(
                f"the data are not those of the run in {self.path} (there → here):\n  "
                + "\n  ".join(lines)
                + f"\nput them back, or train on these in a folder of their own with --config; to have them taken for "
                f"the same, remove {self._provenance}"
            )

    def add_start(self, start: dict[str, Any]) -> None:
        """Notes how the run was started."""
        self._write(self._provenance, self._record() | {"starts": [*self.starts(), start]})

    def starts(self) -> list[dict[str, Any]]:
        """What ``add_start`` kept, the first start first."""
        return self._record().get("starts", [])

    def _record(self) -> dict[str, Any]:
        record = self._read(self._provenance) if self._provenance.exists() else {}
        starts = record.get("starts", [])
        listed = isinstance(starts, list) and all(isinstance(start, dict) for start in starts)
        if not listed or not isinstance(record.get("data", {}), dict):
            raise InputError(f"{self._provenance}: is not as training writes it; restore it from a copy, or remove it")
        return record

    def _take_along(self, init_from: str) -> None:
        """Copies what an imported model came with, which exporting it needs, from the folder that a run begins from."""
        if init_from and multihost.is_primary() and WorkDir(init_from).published.is_dir():
            with write_errors_named(self.path):
                shutil.copytree(WorkDir(init_from).published, self.published, dirs_exist_ok=True)

    def save_teachers(self, steps: dict[str, int]) -> None:
        """Notes which checkpoint of each teacher this run learns from; a teacher that trains on may delete it."""
        if steps:
            self._write(self._teachers, steps)

    def teachers(self) -> dict[str, int]:
        """What ``save_teachers`` kept; nothing where the run has not begun."""
        return self._read(self._teachers) if self._teachers.exists() else {}

    def save_finish(self, finish: RunResult) -> None:
        """Notes that the run has ended as its config says, by its steps or its patience, and all of it is saved."""
        self._write(self._finish, finish._asdict())

    def finish(self) -> RunResult | None:
        """What ``save_finish`` kept; None: the run has not ended, or not as its config says."""
        return RunResult(**self._read(self._finish)) if self._finish.exists() else None

    def _write(self, path: Path, values: dict[str, Any]) -> None:
        if not multihost.is_primary():  # which writes for all
            return
        with atomic_write(path) as draft:
            draft.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", "utf-8")

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            values = json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(
                f"--workdir={self.path}: there is no {path.name}; is it the work folder of a run?"
            ) from error
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error}); restore it from a copy") from error
        if not isinstance(values, dict):
            raise InputError(f"{path}: cannot be read (it has no JSON object); restore it from a copy")
        return values


def what(config: Config) -> dict[str, Any]:
    """The nested values that a run goes on with; where and in which parts it is computed may change in between."""
    return _without_where(parsing.to_dict(config))


def where(config: Config) -> dict[str, Any]:
    """The settings that may change between two starts of one run, by dotted key."""
    values = parsing.to_dict(config)
    return {key: functools.reduce(operator.getitem, key.split("."), values) for key in RESUMABLE_KEYS}


def _without_where(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without_where(value, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in values.items()
        if prefix + key not in RESUMABLE_KEYS
    }
