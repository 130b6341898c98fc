"""Rows with named fields: JSON Lines, Parquet and Arrow tables, in blocks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flaxformer_lite.data import files
from flaxformer_lite.data.rows import INVALID_UTF8, Problem, RowBlock, split_lines
from flaxformer_lite.errors import InputError, require

if TYPE_CHECKING:
    import pyarrow as pa

MISSING_FIELD = "missing field"
NOT_TEXT = "field that is no text"
_BATCH_ROWS = 1 << 16  # of Parquet and Arrow


def json_blocks(name: str, texts: Sequence[str], meta: Sequence[str]) -> Iterator[RowBlock]:
    """Fields of a file with one JSON object per line.

    Args:
      name: the file.
      texts: fields that must be text; a nested one is ``outer/inner``.
      meta: further fields, whose numbers become text.

    Returns:
      Blocks with the columns of ``texts``, then of ``meta``.

    Raises:
      InputError: as for ``files.iter_blocks``.
    """
    paths = [(field, field.split("/"), field in texts) for field in (*texts, *meta)]
    first = 1
    for block in files.iter_blocks(name):
        lines, bad = split_lines(block)
        columns = None if bad else _regular_columns(lines, (*texts, *meta))
        if columns is None:
            columns = _checked_columns(lines, paths, bad)
        yield RowBlock(name, first, columns, bad)
        first += len(lines)


def _regular_columns(lines: list[str], fields: Sequence[str]) -> list[list[str]] | None:
    r"""The fields of a block whose lines all are objects with text in these fields; None of any other block.

    One call of the parser for a block takes half the time of a call for each line. A lone surrogate, which is no valid
    text, can only come from the escape ``\ud``.
    """
    text = ",".join(lines)
    is_plain = all(line.startswith("{") and line.endswith("}") for line in lines)
    if not is_plain or "\\ud" in text or "\\uD" in text:
        return None
    try:
        rows = json.loads(f"[{text}]")
        columns = [[row[field] for row in rows] for field in fields]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    is_text = all(type(value) is str for column in columns for value in column)
    return columns if is_text and len(rows) == len(lines) else None


def _checked_columns(
    lines: list[str], paths: Sequence[tuple[str, Sequence[str], bool]], bad: dict[int, Problem]
) -> list[list[str]]:
    """The fields of a block line by line; problems are added to ``bad``."""
    rows = []
    for i, line in enumerate(lines):
        row = _json_row(line, paths)
        if isinstance(row, Problem):
            bad.setdefault(i, row)
            row = [""] * len(paths)
        rows.append(row)
    return [list(column) for column in zip(*rows, strict=True)]


def parquet_blocks(name: str, texts: Sequence[str], meta: Sequence[str]) -> Iterator[RowBlock]:
    """Fields of a Parquet file; arguments and result as for ``json_blocks``.

    Raises:
      InputError: the file cannot be read or is damaged, or has no such field, or ``texts`` names one that is no text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with files.open_binary(name) as file:
        try:
            table = pq.ParquetFile(file)
            check_fields(table.schema_arrow, texts, meta, name)
            # Leaves of structs have dotted names. Two fields may share one.
            leaves = list(dict.fromkeys(field.replace("/", ".") for field in (*texts, *meta)))
            first = 1
            for batch in table.iter_batches(_BATCH_ROWS, columns=leaves):
                yield arrow_block(RowBlock(name, first, [], {}), pa.Table.from_batches([batch]), texts, meta)
                first += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            reason = f"is no complete Parquet file: {str(error).splitlines()[0]}"
            raise InputError(name, reason, "restore it from a copy") from error


def arrow_block(place: RowBlock, table: pa.Table, texts: Sequence[str], meta: Sequence[str]) -> RowBlock:
    """The fields of an Arrow table as columns of the block that ``place`` names; arguments as for ``json_blocks``."""
    bad: dict[int, Problem] = {}
    columns = [_text_column(_column(table, field), field, bad) for field in texts]
    for field in meta:
        values = _column(table, field).to_pylist()
        bad.update((i, _missing(field)) for i, value in enumerate(values) if value is None)
        columns.append([str(value) for value in values])
    return replace(place, columns=columns, bad=bad)


def check_fields(schema: pa.Schema, texts: Sequence[str], meta: Sequence[str], subject: str) -> None:
    """Raises ``InputError`` where a schema lacks a field, or has one among ``texts`` that is no text."""
    import pyarrow as pa

    known = dict(_leaves(schema))
    text_fields = ", ".join(repr(name) for name, kind in known.items() if _is_text(kind))
    for field in (*texts, *meta):
        require(field in known, subject, f"has no field {field!r}; its text fields are {text_fields}")
    for field in meta:
        require(not pa.types.is_nested(known[field]), subject, f"field {field!r} is no single value but {known[field]}")
    for field in texts:
        reason = f"field {field!r} is no text but {known[field]}; its text fields are {text_fields}"
        require(_is_text(known[field]), subject, reason)


def _leaves(fields: Any, prefix: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """The fields of a schema or struct that hold no others; nested names are joined by a slash."""
    import pyarrow as pa

    for field in fields:
        if pa.types.is_struct(field.type):
            yield from _leaves([field.type.field(i) for i in range(field.type.num_fields)], f"{prefix}{field.name}/")
        else:
            yield prefix + field.name, field.type


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _column(table: pa.Table, field: str) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    name, *inner = field.split("/")
    column = table.column(name)
    for key in inner:
        column = pc.struct_field(column, key)  # pyright: ignore[reportAttributeAccessIssue]  (created at run time)
    return column


def _text_column(column: pa.ChunkedArray, field: str, bad: dict[int, Problem]) -> list[str]:
    """The texts of a column; problems are added to ``bad``."""
    import pyarrow as pa

    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        values = []
        column = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for i, value in enumerate(column.cast(pa.large_binary()).to_pylist()):
            text = None if value is None else value.decode(errors="replace")
            if value is not None and text is not None and text.encode() != value:
                bad[i] = Problem(INVALID_UTF8, f"field {field!r} is not valid UTF-8 ({value[:80]!r})")
            values.append(text)
    if column.null_count:
        for i, value in enumerate(values):
            if value is None:
                values[i] = ""
                bad[i] = _missing(field)
    return values


def _json_row(line: str, paths: Sequence[tuple[str, Sequence[str], bool]]) -> list[str] | Problem:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Problem("invalid JSON", f"is no JSON object: {error}: {line[:80]!r}")
    if not isinstance(row, dict):
        return Problem("invalid JSON", f"is no JSON object: {line[:80]!r}")
    found = []
    for field, path, is_text in paths:
        value: Any = row
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, str):
            if value is None:
                return _missing(field)
            if is_text or isinstance(value, list | dict):
                return Problem(NOT_TEXT, f"field {field!r} is no text but {value!r:.80}")
            value = str(value)
        elif not value.isascii() and not _is_unicode(value):  # a lone surrogate, which JSON can express
            return Problem(INVALID_UTF8, f"field {field!r} is no valid Unicode text: {value[:80]!r}")
        found.append(value)
    return found


def _missing(field: str) -> Problem:
    return Problem(MISSING_FIELD, f"has no value in field {field!r}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
