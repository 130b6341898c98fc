"""Parallel files: line i of one is the translation of line i of the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flaxformer_lite.data.rows import Problem, RowBlock, line_blocks
from flaxformer_lite.errors import InputError


def parallel_blocks(source_name: str, target_name: str) -> Iterator[RowBlock]:
    """The lines of two files as two columns. A line that is bad in one of them is bad in both.

    Raises:
      InputError: as for ``line_blocks``, or they have different numbers of lines.
    """
    names = source_name, target_name
    streams = [line_blocks(name) for name in names]
    pending: list[RowBlock | None] = [None, None]
    lines = 0
    while True:
        pending = [block or next(stream, None) for block, stream in zip(pending, streams, strict=True)]
        source, target = pending
        if source is None or target is None:
            break
        count = min(len(source), len(target))
        yield _join(source.slice(0, count), target.slice(0, count))
        lines += count
        pending = [block.slice(count, len(block)) if len(block) > count else None for block in (source, target)]
    left = [
        len(block) + sum(map(len, stream)) if block is not None else 0
        for block, stream in zip(pending, streams, strict=True)
    ]
    if any(left):
        raise InputError(
            ", ".join(names),
            f"have {lines + left[0]} and {lines + left[1]} lines",
            "line i of one must be the translation of line i of the other",
        )


def _join(source: RowBlock, target: RowBlock) -> RowBlock:
    bad = {i: Problem(problem.reason, problem.detail, target.name) for i, problem in target.bad.items()}
    return replace(source, columns=[source.columns[0], target.columns[0]], bad=bad | dict(source.bad))
