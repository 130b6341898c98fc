"""The work directory of a run: its resolved config, vocabularies, checkpoints and records."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flaxformer_lite.config import migrations, parsing
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError, require, write_errors_named
from flaxformer_lite.system import file_lock, multihost
from flaxformer_lite.system.atomic import atomic_write

if TYPE_CHECKING:
    from flaxformer_lite.data.vocabularies.base import Vocabulary

# Keys, or groups of keys, that may change between two starts of one run. All others determine its parameters.
RESUMABLE_KEYS = (
    # where, and in which parts, it is computed
    *("mesh", "logical_axis_rules", "parallel", "model.remat", "model.scan_layers", "train.grad_accum_steps"),
    *("data.prefetch", "train.max_compiles", "train.max_nonfinite_steps"),
    # the same data at another path; their contents are compared with those of the first start
    *("data.cmudict.data_dir", "data.tfds.data_dir", "data.options", "data.text", "data.hf"),
    "data.on_bad_row",
    *("data.source_vocabulary.model", "data.target_vocabulary.model"),
    *("data.source_vocabulary.sample_size", "data.target_vocabulary.sample_size"),
    # what is logged, evaluated and kept, and how long the run is
    *("train.log_every", "train.eval_every", "train.save_every", "train.keep_latest", "train.keep_best"),
    *("train.patience", "eval.metrics", "eval.metric_options", "eval.max_examples", "eval.num_samples", "decode"),
    "eval.group_by",
    "train.steps",  # where the learning rate of the steps so far does not depend on it
)
_RESTORE_OR_REMOVE = "restore it from a copy, or remove it"
_VISIBLE_WITHIN = 70  # seconds; a network file system may cache for a minute that a file does not exist


class RunResult(NamedTuple):
    """How a run ended.

    Attributes:
      step: the last step.
      best_step: the best of the steps that were evaluated; 0: none was.
      best_value: of ``eval.best_metric`` at that step; None where there is no such number.
    """

    step: int
    best_step: int
    best_value: float | None


class WorkDir:
    """The directory of a run and the files in it."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        is_url = re.match(r"\w{2,}:/", str(path)) is not None
        require(
            not is_url, str(path), "must be a directory of a file system", "mount the bucket, or choose another path"
        )
        self.checkpoints = self.path / "checkpoints"
        self._config = self.path / "config.json"
        self._vocabularies = (self.path / "source.vocabulary.json", self.path / "target.vocabulary.json")
        self._teachers = self.path / "teachers.json"
        self._provenance = self.path / "provenance.json"
        self._finish = self.path / "finished.json"
        self._lock = self.path / ".lock"
        self.published = self.path / "published"  # files of an imported model beside its weights

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Locks the directory against every other run; of several processes of one run, the primary one does.

        Raises:
          InputError: another run uses it.
        """
        if not multihost.is_primary():
            yield
            return
        with file_lock.hold(self._lock) as other:
            if other:
                remedy = "wait for it, stop it, or choose another directory"
                raise InputError(str(self.path), f"{other} trains in this directory already", remedy)
            yield

    def claim(self, config: Config) -> bool:
        """Writes the config into a new directory; in that of a run, checks that ``config`` can resume it.

        Returns whether there is a run already. ``record_start`` then records what has changed.

        Raises:
          InputError: the run has another config (the message lists the differences that change it), or the directory
            cannot be written; or this is one of several processes and does not see what the primary one wrote.
        """
        if not multihost.is_primary():
            self._await_config()
        if not self._config.exists():
            with write_errors_named(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            self._copy_published(config.train.init_from)
            self._write(self._config, migrations.with_version(parsing.to_dict(config)))
            return False
        saved = self.config()
        if lines := parsing.difference(fixed_values(saved), fixed_values(config)):
            reason = "holds a run with another config (there → here):\n  " + "\n  ".join(lines) + "\n"
            remedy = "choose another directory for this run, or undo the difference to resume that one"
            raise InputError(str(self.path), reason, remedy)
        self._check_steps(saved, config)
        return True

    def _check_steps(self, saved: Config, config: Config) -> None:
        """Refuses another number of steps where it would change the learning rate of the steps so far."""
        schedule, steps = saved.optim.schedule, saved.train.steps
        if steps == config.train.steps or schedule in ("constant", "inverse_sqrt", "plateau"):
            return
        subject = f"config.train.steps={config.train.steps}"
        remedy = f"start a new run from these parameters with config.train.init_from={str(self.path)!r}"
        if schedule == "wsd":
            decay = steps - saved.optim.decay_steps
            reason = f"the run in {self.path} ({steps} steps) has passed step {decay}, where its learning rate falls"
            remedy = f"remove its checkpoints after step {decay} to change the steps, or {remedy}"
            require(self.latest_step() <= decay, subject, reason, remedy)
            return
        reason = f"the learning rate of the run in {self.path} depends on its {steps} steps ({schedule=!s})"
        raise InputError(subject, reason, remedy)

    def latest_step(self) -> int:
        """The step of the latest checkpoint; 0 where there is none."""
        names = [path.name for path in self.checkpoints.iterdir()] if self.checkpoints.is_dir() else []
        return max((int(name) for name in names if name.isascii() and name.isdigit()), default=0)

    def _await_config(self) -> None:
        end = time.monotonic() + _VISIBLE_WITHIN
        while not self._config.exists():
            if time.monotonic() > end:
                reason = "files that process 0 wrote there do not exist here"
                remedy = "all processes need one directory, on a file system that their machines share"
                raise InputError(str(self.path), reason, remedy)
            time.sleep(0.5)

    def config(self) -> Config:
        """The config of the run, of any version.

        Raises:
          InputError: there is none, or it is no valid config.
        """
        values = migrations.read_config(self._config)
        try:
            return parsing.from_dict(values)
        except InputError as error:
            raise InputError(f"{self._config}, {error.subject}", error.reason, error.remedy) from error

    def save_vocabularies(self, source: Vocabulary, target: Vocabulary) -> None:
        """Saves both vocabularies.

        Raises:
          InputError: the directory holds other ones: the training data have changed since the run began.
        """
        for path, kept in zip(self._vocabularies, (source, target), strict=True):
            values = kept.to_json()
            if path.exists() and self._read(path) != json.loads(json.dumps(values)):
                reason = "differs from the vocabulary of the training data, which have changed since this run began"
                raise InputError(str(path), reason, "choose another directory for a run on these data")
            self._write(path, values)

    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """The source and the target vocabulary; ``InputError`` where a file is missing or damaged."""
        from flaxformer_lite.data.vocabularies import saved  # deferred: SentencePiece takes time to import

        source, target = (saved.from_json(self._read(path)) for path in self._vocabularies)
        return source, target

    def save_data(self, fingerprint: dict[str, Any]) -> None:
        """Saves sizes and hashes of the run's data.

        Raises:
          InputError: the run in this directory has other data.
        """
        self.check_data(fingerprint)
        if "data" not in (record := self._record()):
            self._write(self._provenance, record | {"data": fingerprint})

    def check_data(self, fingerprint: dict[str, Any]) -> None:
        """Raises ``InputError`` with the differences where the run in this directory has other data."""
        if lines := parsing.difference(self._record().get("data", fingerprint), fingerprint):
            reason = "the data differ from those of this run (there → here):\n  " + "\n  ".join(lines) + "\n"
            remedy = f"restore them, or choose another directory; to accept them as the same, remove {self._provenance}"
            raise InputError(str(self.path), reason, remedy)

    def record_start(self, start: dict[str, Any], config: Config) -> None:
        """Appends a start to the provenance, with what has changed in the config, and saves that config."""
        changes = parsing.difference(parsing.to_dict(self.config()), parsing.to_dict(config))
        if changes or self._read(self._config).get("version") != migrations.VERSION:
            self._write(self._config, migrations.with_version(parsing.to_dict(config)))
        if changes and multihost.is_primary():
            self._finish.unlink(missing_ok=True)  # written again when the run ends as it is now configured
        self._write(
            self._provenance, self._record() | {"starts": [*self.starts(), start | {"config_changes": changes}]}
        )

    def starts(self) -> list[dict[str, Any]]:
        """The starts that ``record_start`` recorded, the first one first."""
        return self._record().get("starts", [])

    def _record(self) -> dict[str, Any]:
        record = self._read(self._provenance) if self._provenance.exists() else {}
        starts = record.get("starts", [])
        listed = isinstance(starts, list) and all(isinstance(start, dict) for start in starts)
        valid = listed and isinstance(record.get("data", {}), dict)
        require(valid, str(self._provenance), "has another structure than training writes", _RESTORE_OR_REMOVE)
        return record

    def _copy_published(self, init_from: str) -> None:
        """Copies the files of an imported model, which its export needs, from the directory that a run begins from."""
        if init_from and multihost.is_primary() and WorkDir(init_from).published.is_dir():
            with write_errors_named(self.path):
                shutil.copytree(WorkDir(init_from).published, self.published, dirs_exist_ok=True)

    def save_teachers(self, steps: dict[str, int]) -> None:
        """Saves the step of each teacher's checkpoint; a teacher that trains further may delete it."""
        if steps:
            self._write(self._teachers, steps)

    def teachers(self) -> dict[str, int]:
        """The steps that ``save_teachers`` saved; empty where the run has not begun."""
        return self._read(self._teachers) if self._teachers.exists() else {}

    def save_finish(self, finish: RunResult) -> None:
        """Records that the run has ended by ``train.steps`` or ``train.patience``, with everything saved."""
        self._write(self._finish, finish._asdict())

    def finish(self) -> RunResult | None:
        """The result that ``save_finish`` saved; None: the run has not ended, or was stopped before.

        Raises:
          InputError: the file is damaged.
        """
        if not self._finish.exists():
            return None
        values = self._read(self._finish)
        steps = [values.get(name) for name in ("step", "best_step")]
        valid = set(values) == set(RunResult._fields) and all(type(step) is int for step in steps)
        valid = valid and (values["best_value"] is None or type(values["best_value"]) in (int, float))
        require(valid, str(self._finish), "has other content than training writes", _RESTORE_OR_REMOVE)
        return RunResult(**values)

    def _write(self, path: Path, values: dict[str, Any]) -> None:
        if not multihost.is_primary():  # which writes for all
            return
        with atomic_write(path) as draft:
            draft.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", "utf-8")

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            values = json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(str(self.path), f"has no {path.name}", "is it the work directory of a run?") from error
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(str(path), f"cannot be read ({error})", "restore it from a copy") from error
        require(isinstance(values, dict), str(path), "holds no JSON object", "restore it from a copy")
        return values


def fixed_values(config: Config) -> dict[str, Any]:
    """The nested values that stay the same for all starts of a run."""
    return _without_resumable(parsing.to_dict(config))


def is_resumable(key: str) -> bool:
    """Whether a dotted key, or one within free options, may change between two starts of a run."""
    return any(f"{key}.".startswith(f"{group}.") for group in RESUMABLE_KEYS)


def _without_resumable(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without_resumable(value, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in values.items()
        if prefix + key not in RESUMABLE_KEYS
    }
