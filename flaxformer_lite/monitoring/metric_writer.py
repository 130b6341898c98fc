"""Metrics, samples and plots of a run in its work directory."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, SupportsFloat

from flaxformer_lite.errors import write_errors_named
from flaxformer_lite.system import multihost
from flaxformer_lite.system.atomic import atomic_write
from flaxformer_lite.system.json_text import finite

logger = logging.getLogger(__name__)


class MetricWriter:
    """Writes metrics.jsonl, samples.txt, curves.png and TensorBoard's event files.

    Each line of metrics.jsonl is an object with ``step`` and some of the metrics, such as ``train/loss`` and
    ``eval/wer``. A value that is not finite is ``null`` there, since JSON has no NaN.
    """

    def __init__(self, folder: Path):
        self._metrics = folder / "metrics.jsonl"
        self._samples = folder / "samples.txt"
        self._plots = folder / "curves.png"
        self._tensorboard = folder / "tensorboard"
        self._events: Any = None  # TensorBoard's event file, opened by the first write
        self._first_step = 0  # TensorBoard discards what earlier files say of steps from here on
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Writes metrics of one step."""
        values = {name: float(value) for name, value in metrics.items()}  # NumPy scalars too
        line = {"step": step} | finite(values)
        with write_errors_named(self._metrics), self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        with write_errors_named(self._tensorboard):
            self._write_events(step, values)

    def write_samples(self, step: int, rows: Iterable[tuple[str, str, str]]) -> None:
        """Writes and logs decoded examples; a row is (source, reference, hypothesis)."""
        text = f"samples of step {step:,}\n" + "\n".join(_format_sample(row) for row in rows)
        with write_errors_named(self._samples), self._samples.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        logger.info(text)

    def draw_plots(self) -> None:
        """Draws curves.png from metrics.jsonl."""
        if lines := read_metrics(self._metrics):
            from flaxformer_lite.monitoring import plots  # here, because matplotlib takes half a second to import

            with atomic_write(self._plots) as draft:
                plots.draw(lines, draft)

    def rewind(self, step: int) -> None:
        """Removes what was written after ``step``, for a run that resumes from there.

        A killed run wrote more than its last checkpoint holds, and perhaps half a line; those steps are trained again.
        """
        with write_errors_named(self._metrics):
            kept = [line for line in read_metrics(self._metrics) if line["step"] <= step]
        with atomic_write(self._metrics) as draft:
            draft.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        if self._samples.exists():
            with write_errors_named(self._samples):
                lines = self._samples.read_bytes().splitlines(keepends=True)
            with atomic_write(self._samples) as draft:
                draft.write_bytes(_samples_until(step, lines))
        self.close()
        self._first_step = step + 1

    def close(self) -> None:
        """Closes TensorBoard's event file; a later ``write`` opens another."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def _write_events(self, step: int, values: Mapping[str, float]) -> None:
        # EventsWriter writes in this thread. SummaryWriter uses a thread of its own, which ends without an error
        # when the disk is full and leaves the run waiting for it forever.
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


class NullMetricWriter(MetricWriter):
    """Writes nothing: of several processes, the primary one writes for all."""

    def __init__(self):
        pass

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        pass

    def write_samples(self, step: int, rows: Iterable[tuple[str, str, str]]) -> None:
        pass

    def draw_plots(self) -> None:
        pass

    def rewind(self, step: int) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def open_writer(folder: Path, step: int) -> Iterator[MetricWriter]:
    """The metric writer of a run that starts or resumes after ``step`` steps; it is closed at the end."""
    writer = MetricWriter(folder) if multihost.is_primary() else NullMetricWriter()
    writer.rewind(step)
    try:
        yield writer
    finally:
        writer.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a metrics file, each with its ``step``; none where there is no file."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text("utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # half a line that a killed run left
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def _format_sample(row: Sequence[str]) -> str:
    """Three indented lines, however many lines the texts have, so that ``rewind`` finds where blocks begin."""
    names = ("source", "reference", "hypothesis")
    return "".join(f"  {name:<12}{' '.join(text.split())}\n" for name, text in zip(names, row, strict=True))


def _samples_until(step: int, lines: Iterable[bytes]) -> bytes:
    """The blocks of steps up to ``step``; bytes, because an edited file need not be valid UTF-8."""
    kept = []
    for line in lines:
        heading = re.match(rb"samples of step ([\d,]+)\s*$", line)
        if heading and int(heading[1].replace(b",", b"")) > step:
            break
        kept.append(line)
    return b"".join(kept)
