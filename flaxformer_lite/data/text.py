"""The task ``text``: parallel files, tables (TSV, JSON Lines, Parquet) and plain text as examples."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from flaxformer_lite.config.dataclasses import TextConfig
from flaxformer_lite.data import files, jsonl_parquet, rows
from flaxformer_lite.data.examples import Examples
from flaxformer_lite.data.parallel_files import parallel_blocks
from flaxformer_lite.data.rows import BadRows, RowBlock
from flaxformer_lite.data.table_columns import Columns, concatenate, merge_equal_sources, to_examples
from flaxformer_lite.errors import require

Format = Literal["parallel", "lines", "tsv", "jsonl", "parquet"]
TABLES = ("tsv", "jsonl", "parquet")
_BY_EXTENSION: dict[str, Format] = {".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


class TextFiles(NamedTuple):
    """The files of one split, and what is read from them.

    Attributes:
      format: of all of them.
      entries: the files of each entry of the config, such as its shards.
      columns: numbers of columns in a TSV, or their names.
      header: whether each TSV file begins with a line of column names.
      width: columns that each line of a TSV has; 0: as many as its first line.
    """

    format: Format
    entries: list[list[str]]
    columns: Columns
    header: bool = False
    width: int = 0


def find_files(config: TextConfig, entries: Sequence[str], subject: str, with_targets: bool = True) -> TextFiles:
    """Finds the files of a split, their format and columns.

    Args:
      config: the format and the columns.
      entries: files, glob patterns, folders or URLs.
      subject: the key of the split, for error messages.
      with_targets: False: the default of ``config.target_columns`` is none.

    Raises:
      InputError: a file does not exist, or the files do not fit the format or one another.
    """
    found = [files.expand(entry) for entry in entries]
    format = _detect_format(found, subject) if config.format == "auto" else config.format
    if format == "parallel":
        require(len(found) == 2, subject, f"must be two parallel files for {format=!s}, not {len(found)}")
        counts = [len(these) for these in found]
        reason = f"have {counts[0]} and {counts[1]} files"
        require(counts[0] == counts[1], ", ".join(entries), reason, "files are matched in the order of their names")
    if format not in TABLES:
        return TextFiles(format, found, Columns(("source",), ("target",) if format == "parallel" else ()))
    defaults = ("0", "1") if format == "tsv" else ("source", "target")
    sources = config.source_columns or defaults[:1]
    targets = config.target_columns or (defaults[1:] if with_targets else ())
    columns = Columns(sources, targets, config.meta_columns, config.column_separator)
    has_defaults = with_targets and not any((config.source_columns, config.target_columns, config.meta_columns))
    return TextFiles(format, found, columns, config.header, width=2 if has_defaults else 0)


def read(found: TextFiles, bad: BadRows, group_references: bool) -> Examples:
    """Reads a whole split.

    Args:
      found: the files of the split.
      bad: what to do with rows that cannot be used.
      group_references: rows of a table with equal sources become one example with several references.

    Raises:
      InputError: see ``iter_examples``.
    """
    examples = concatenate(iter_examples(found, bad), found.columns.meta)
    examples = replace(examples, dropped=bad.dropped())
    return merge_equal_sources(examples) if group_references and found.format in TABLES else examples


def iter_examples(found: TextFiles, bad: BadRows) -> Iterator[Examples]:
    """Reads a split block by block, in the order of its files; references are not grouped.

    Raises:
      InputError: a file cannot be read or is damaged, parallel files have different numbers of lines, or a row cannot
        be used and ``bad`` refuses it.
    """
    if found.format == "parallel":
        for source, target in zip(*found.entries, strict=True):
            for block in parallel_blocks(source, target):
                yield to_examples(block, found.columns, bad, target)
        return
    for block in _blocks(found):
        yield to_examples(block, found.columns, bad)


def _blocks(found: TextFiles) -> Iterator[RowBlock]:
    """The rows of a table or of plain text, with the columns of ``found.columns``."""
    columns, tsv = found.columns, None
    texts = (*columns.sources, *columns.targets)
    for name in itertools.chain.from_iterable(found.entries):
        match found.format:
            case "lines":
                yield from rows.line_blocks(name)
            case "jsonl":
                yield from jsonl_parquet.json_blocks(name, texts, columns.meta)
            case "parquet":
                yield from jsonl_parquet.parquet_blocks(name, texts, columns.meta)
            case _:
                tsv = tsv or rows.choose_tsv_columns(name, (*texts, *columns.meta), found.header, found.width)
                yield from rows.tsv_blocks(name, tsv) if tsv else ()


def _detect_format(found: list[list[str]], subject: str) -> Format:
    extensions = sorted({files.extension(name) for these in found for name in these})
    formats: set[Format] = {_BY_EXTENSION[extension] for extension in extensions if extension in _BY_EXTENSION}
    if formats:
        reason = f"has files of different kinds: {', '.join(map(repr, extensions))}"
        is_one = len(formats) == 1 and all(extension in _BY_EXTENSION for extension in extensions)
        require(is_one, subject, reason, "name files of one kind, or set config.data.text.format")
        return formats.pop()
    require(
        len(found) <= 2,
        subject,
        f"must be two parallel files or one of tab-separated columns, not {len(found)} files",
        "to read more files without a known extension, set config.data.text.format",
    )
    if len(found) == 2:
        return "parallel"
    return "tsv" if "\t" in (files.read_first_line(found[0][0]) or "") else "lines"
