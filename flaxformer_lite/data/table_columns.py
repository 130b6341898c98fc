"""Columns of rows as sources, references and further values of examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from flaxformer_lite.data.examples import Examples
from flaxformer_lite.data.rows import BadRows, Problem, RowBlock


class Columns(NamedTuple):
    """Which columns examples consist of.

    Attributes:
      sources: those that are joined to the source.
      targets: those that are joined to the target; none: the examples have no references.
      meta: those that are kept beside them.
      separator: between joined columns.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    meta: tuple[str, ...] = ()
    separator: str = " "


def to_examples(block: RowBlock, columns: Columns, bad: BadRows, target_file: str = "") -> Examples:
    """Makes each row of a block an example with at most one reference; without the rows that cannot be used.

    Args:
      block: rows with the columns of the sources, then of the targets, then the meta columns.
      columns: the names of these columns.
      bad: what to do with rows that cannot be used.
      target_file: the file of the targets, where it is not that of the block.

    Raises:
      InputError: ``bad`` refuses a row.

    Example:
      Rows ``(walk, V;PST, walked)`` and ``(go, V;PST, went)`` with two columns of sources become the sources
      ``["walk V;PST", "go V;PST"]`` with the references ``[("walked",), ("went",)]``.
    """
    num_sources, num_texts = len(columns.sources), len(columns.sources) + len(columns.targets)
    texts = [_join(block.columns[:num_sources], columns.separator)]
    if columns.targets:
        texts.append(_join(block.columns[num_sources:num_texts], columns.separator))
    problems = dict(block.bad)
    if columns.targets and bad.policy != "keep_empty":  # empty lines of plain text separate its paragraphs
        for side, column, place in zip(("source", "target"), texts, ("", target_file), strict=False):
            _find_empty(column, Problem(f"empty {side}", f"has an empty {side}", place), problems)
    block = replace(block, columns=[*texts, *block.columns[num_texts:]], bad=problems)
    sources, *others = bad.without_bad_rows(block).columns
    references = list(zip(others.pop(0), strict=True)) if columns.targets else [()] * len(sources)
    return Examples(sources, references, dict(zip(columns.meta, others, strict=True)))


def concatenate(parts: Iterable[Examples], meta_names: Sequence[str]) -> Examples:
    """Returns the examples of all parts, which have the given meta columns."""
    sources: list[str] = []
    references: list[tuple[str, ...]] = []
    meta: dict[str, list[str]] = {name: [] for name in meta_names}
    for part in parts:
        sources += part.sources
        references += part.references
        for name, values in meta.items():
            values += part.meta[name]
    return Examples(sources, references, meta)


def merge_equal_sources(examples: Examples) -> Examples:
    """Makes the references of equal sources references of one example, which stands where the first of them stood.

    Example:
      The pairs ``(lead, L IY D)``, ``(read, R IY D)`` and ``(lead, L EH D)`` become the sources ``["lead", "read"]``
      with the references ``[("L IY D", "L EH D"), ("R IY D",)]``.
    """
    firsts: dict[str, int] = {}
    groups: dict[int, list[str]] = {}
    for i, (source, references) in enumerate(zip(examples.sources, examples.references, strict=True)):
        groups.setdefault(firsts.setdefault(source, i), []).extend(references)
    meta = {name: [values[i] for i in groups] for name, values in examples.meta.items()}
    return Examples(list(firsts), [tuple(these) for these in groups.values()], meta, examples.dropped)


def _join(columns: list[list[str]], separator: str) -> list[str]:
    return columns[0] if len(columns) == 1 else list(map(separator.join, zip(*columns, strict=True)))


def _find_empty(texts: list[str], problem: Problem, problems: dict[int, Problem]) -> None:
    """Adds the rows whose text is empty or consists of whitespace."""
    if not all(map(str.strip, texts)):
        for i, text in enumerate(texts):
            if not text.strip():
                problems.setdefault(i, problem)
