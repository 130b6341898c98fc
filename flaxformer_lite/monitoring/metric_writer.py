"""The record of a run in its work folder: metrics, samples, curves."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, SupportsFloat, TypeVar

from flaxformer_lite.errors import write_errors_named
from flaxformer_lite.system import multihost
from flaxformer_lite.system.atomic import atomic_write

logger = logging.getLogger(__name__)


class Report:
    """The record of a run in its work folder: metrics.jsonl, samples.txt, plots.png and TensorBoard's event files.

    Each line of metrics.jsonl is an object with ``step`` and some of the metrics, such as ``train/loss`` and
    ``eval/wer``. A value that is not finite is ``null`` there, since JSON has no word for it.
    """

    def __init__(self, folder: Path):
        self._metrics = folder / "metrics.jsonl"
        self._samples = folder / "samples.txt"
        self._curves = folder / "curves.png"
        self._tensorboard = folder / "tensorboard"
        self._events: Any = None  # TensorBoard's file, opened by the first write
        self._first_step = 0  # TensorBoard forgets what earlier files say of steps from here on
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Records metrics of one step."""
        values = {name: float(value) for name, value in metrics.items()}  # NumPy scalars too
        line = {"step": step} | finite(values)
        with write_errors_named(self._metrics), self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        with write_errors_named(self._tensorboard):
            self._write_events(step, values)

    def samples(self, step: int, rows: Iterable[tuple[str, str, str]]) -> None:
        """Records and says what became of some sources; a row is (source, reference, hypothesis)."""
        logger.info(self._keep_samples(step, rows))

    def _keep_samples(self, step: int, rows: Iterable[tuple[str, str, str]]) -> str:
        text = f"samples of step {step:,}\n" + "\n".join(_format_sample(row) for row in rows)
        with write_errors_named(self._samples), self._samples.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        return text

    def curves(self) -> None:
        """Draws plots.png anew from metrics.jsonl."""
        lines = read(self._metrics)
        if lines:
            from flaxformer_lite.monitoring import plots  # here, because matplotlib takes half a second to import

            with atomic_write(self._curves) as draft:
                plots.draw(lines, draft)

    def rewind(self, step: int) -> None:
        """Forgets what was recorded after ``step``, for a run that goes on from there.

        A killed run wrote more than its last checkpoint holds, and perhaps half a line; those steps come again.
        """
        kept = [line for line in read(self._metrics) if line["step"] <= step]
        with atomic_write(self._metrics) as draft:
            draft.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        if self._samples.exists():
            lines = self._samples.read_text("utf-8").splitlines(keepends=True)
            with atomic_write(self._samples) as draft:
                draft.write_text(_samples_until(step, lines), "utf-8")
        self.close()
        self._first_step = step + 1

    def close(self) -> None:
        """Ends TensorBoard's file. A later ``write`` begins another."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def _write_events(self, step: int, values: Mapping[str, float]) -> None:
        # EventsWriter writes in this thread. SummaryWriter hands over to one of its own, which dies of a full disk
        # without a word and leaves the run waiting for it for ever.
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

        if self._events is None:
            self._tensorboard.mkdir(exist_ok=True)
            self._events = EventsWriter(str(self._tensorboard / "events"), filename_suffix=f".{time.time_ns()}")
            start = SessionLog(status=SessionLog.START)
            self._events.write_event(Event(step=self._first_step, wall_time=time.time(), session_log=start))
        for name, value in values.items():
            self._events.write_event(Event(step=step, wall_time=time.time(), summary=summary.scalar(name, value)))
        self._events.flush()


class Unwritten(Report):
    """The report of a process that leaves the record to the first one."""

    def __init__(self):
        pass

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Records nothing, and neither do the others."""

    def samples(self, step: int, rows: Iterable[tuple[str, str, str]]) -> None:
        """Nothing."""

    def curves(self) -> None:
        """Nothing."""

    def rewind(self, step: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def make_report(folder: Path) -> Report:
    """The record of a run, which the first process keeps for all."""
    return Report(folder) if multihost.is_primary() else Unwritten()


R = TypeVar("R", bound=Report)


@contextmanager
def going_on(report: R, done: int) -> Iterator[R]:
    """A record that goes on after ``done`` steps, and is closed in the end."""
    report.rewind(done)
    try:
        yield report
    finally:
        report.close()


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """What is not finite as None, since JSON has no word for it."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file, each with its ``step``; none if there is no file."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text("utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # a kill left half a line
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def _format_sample(row: Sequence[str]) -> str:
    """Three lines, each indented, however many lines the texts have: ``rewind`` knows its blocks by that."""
    names = ("source", "reference", "hypothesis")
    return "".join(f"  {name:<12}{' '.join(text.split())}\n" for name, text in zip(names, row, strict=True))


def _samples_until(step: int, lines: Iterable[str]) -> str:
    kept = []
    for line in lines:
        if line.startswith("samples of step ") and int(line.split()[-1].replace(",", "")) > step:
            break
        kept.append(line)
    return "".join(kept)
