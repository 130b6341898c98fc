"""Rows of text files: plain lines and tab-separated columns, in blocks; what to do with rows that cannot be used."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from flaxformer_lite.data import files
from flaxformer_lite.data.examples import DroppedRows
from flaxformer_lite.errors import InputError, require

INVALID_UTF8 = "invalid UTF-8"
WRONG_COLUMNS = "wrong number of columns"


class Problem(NamedTuple):
    """Why a row cannot be used: a reason of a few, the details of this row, and its file if not that of its block."""

    reason: str
    detail: str
    name: str = ""


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of one file.

    Attributes:
      name: the file.
      first: the number of the first row, from 1.
      columns: the columns that were asked for, each with one text per row; any text where the row is bad.
      bad: the rows that cannot be used, by their index in the block.
    """

    name: str
    first: int
    columns: list[list[str]]
    bad: Mapping[int, Problem]

    def __len__(self) -> int:
        return len(self.columns[0])

    def slice(self, start: int, stop: int) -> RowBlock:
        """Returns the rows from ``start`` to ``stop``, exclusive."""
        bad = {i - start: problem for i, problem in self.bad.items() if start <= i < stop}
        return RowBlock(self.name, self.first + start, [column[start:stop] for column in self.columns], bad)


class BadRows:
    """Refuses or counts rows that cannot be used, according to ``data.on_bad_row``."""

    def __init__(self, policy: Literal["error", "drop", "keep_empty"]):
        self.policy = policy
        self._lines: dict[str, dict[str, array[int]]] = {}
        self._details: dict[str, str] = {}

    def without_bad_rows(self, block: RowBlock) -> RowBlock:
        """Returns the other rows of a block, and counts the bad ones; ``InputError`` where they are errors."""
        if not block.bad:
            return block
        for i in sorted(block.bad):
            self._report(block.bad[i], block.bad[i].name or block.name, block.first + i)
        kept = [i for i in range(len(block)) if i not in block.bad]
        return replace(block, columns=[[column[i] for i in kept] for column in block.columns], bad={})

    def _report(self, problem: Problem, name: str, line: int) -> None:
        if self.policy != "drop":
            remedy = "fix it, or set config.data.on_bad_row='drop' to leave such rows out"
            raise InputError(f"{name}:{line}", problem.detail, remedy)
        self._details.setdefault(problem.reason, problem.detail)
        self._lines.setdefault(problem.reason, {}).setdefault(name, array("q")).append(line)

    def dropped(self) -> tuple[DroppedRows, ...]:
        """The rows so far, by reason."""
        return tuple(DroppedRows(reason, self._details[reason], lines) for reason, lines in self._lines.items())


def split_lines(block: bytes) -> tuple[list[str], dict[int, Problem]]:
    r"""Splits a block of UTF-8 text into lines, and finds those that are not valid UTF-8.

    Lines end in ``\n`` or ``\r\n`` and nowhere else (not at a form feed or U+2028).

    Example:
      ``b"one\r\ntwo\n"`` gives ``["one", "two"]``.
    """
    try:
        return _split(block.decode()), {}
    except UnicodeDecodeError:
        lines, bad = _split(block.decode(errors="replace")), {}
    for i, line in enumerate(block.removesuffix(b"\n").split(b"\n")):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            bad[i] = Problem(INVALID_UTF8, f"not valid UTF-8 ({line[error.start : error.end]!r})")
    return lines, bad


def line_blocks(name: str) -> Iterator[RowBlock]:
    """The lines of a file, as one column.

    Raises:
      InputError: the file cannot be read, is damaged or not UTF-8 by its byte order mark.
    """
    first = 1
    for block in files.iter_blocks(name):
        lines, bad = split_lines(block)
        yield RowBlock(name, first, [lines], bad)
        first += len(lines)


class TsvColumns(NamedTuple):
    """Which columns of a TSV are read: ``numbers`` from 0, of ``width`` in all; ``header`` is its first line, or ""."""

    numbers: list[int]
    width: int
    header: str = ""


def choose_tsv_columns(name: str, wanted: Sequence[str], header: bool, width: int = 0) -> TsvColumns | None:
    """Finds columns by the first line of a TSV; None where the file is empty.

    Args:
      name: the file.
      wanted: numbers from 0, or, where there is a header, names.
      header: whether the first line holds names.
      width: the number of columns that lines must have; 0: as many as the first line.

    Raises:
      InputError: the file cannot be read, or a column does not exist.
    """
    line = files.read_first_line(name)
    if line is None:
        return None
    names = line.split("\t")
    numbers = [str(i) for i in range(max(len(names), width))]
    known = {name: i for i, name in enumerate(numbers)} | {name: i for i, name in enumerate(names) if header}
    for column in wanted:
        what = f"its header has {', '.join(map(repr, names))}" if header else f"line 1 has {len(names)}: {line[:80]!r}"
        remedy = "" if header else "give numbers from 0, or set config.data.text.header=True to give names"
        require(column in known, name, f"has no column {column!r}; {what}", remedy)
    return TsvColumns([known[column] for column in wanted], width or len(names), line if header else "")


def tsv_blocks(name: str, columns: TsvColumns) -> Iterator[RowBlock]:
    """Columns of a TSV. A line with another number of columns than ``columns.width`` is a bad row.

    Raises:
      InputError: as for ``line_blocks``, or the header differs from that of ``columns``.
    """
    first = 1
    for block in files.iter_blocks(name):
        found = _tsv_block(RowBlock(name, first, [], {}), block, columns)
        first += len(found)
        if columns.header and found.first == 1:
            header = files.first_line_of(block)
            reason = f"its header {header!r} differs from that of the first file, {columns.header!r}"
            require(header == columns.header, name, reason)
            found = found.slice(1, len(found))
        yield found


def _tsv_block(place: RowBlock, block: bytes, columns: TsvColumns) -> RowBlock:
    fields = _regular_fields(block, columns.width)
    if fields is not None:
        return replace(place, columns=[fields[i :: columns.width] for i in columns.numbers])
    lines, bad = split_lines(block)
    rows = [line.split("\t") for line in lines]
    for i, row in enumerate(rows):
        if len(row) != columns.width:
            reason = f"{len(row)} tab-separated columns instead of {columns.width}: {lines[i][:80]!r}"
            bad.setdefault(i, Problem(WRONG_COLUMNS, reason))
            rows[i] = row + [""] * columns.width
    return replace(place, columns=[[row[i] for row in rows] for i in columns.numbers], bad=bad)


def _regular_fields(block: bytes, width: int) -> list[str] | None:
    """All fields of a block row by row, without work in Python for each; None unless every line has ``width``."""
    block = block if block.endswith(b"\n") else block + b"\n"
    codes = np.frombuffer(block, np.uint8)
    separators = codes[(codes == ord("\t")) | (codes == ord("\n"))]
    if len(separators) % width:
        return None
    by_row = separators.reshape(-1, width)
    if not ((by_row[:, :-1] == ord("\t")).all() and (by_row[:, -1] == ord("\n")).all()):
        return None
    try:
        text = block.decode()
    except UnicodeDecodeError:
        return None
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return text.removesuffix("\n").replace("\n", "\t").split("\t")


def _split(text: str) -> list[str]:
    if "\r" in text:
        text = text.replace("\r\n", "\n").removesuffix("\r")
    lines = text.split("\n")
    if not lines[-1]:
        del lines[-1]
    return lines
