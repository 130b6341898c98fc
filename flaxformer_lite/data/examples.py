"""Examples as text: sources, their references, and what was left out while reading them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class DroppedRows:
    """Rows of data that were left out for one reason.

    Attributes:
      reason: why they cannot be used, such as "invalid UTF-8".
      detail: what the first of them looks like.
      lines: for each file the numbers of these rows, from 1.
    """

    reason: str
    detail: str
    lines: Mapping[str, array[int]]

    @property
    def count(self) -> int:
        return sum(map(len, self.lines.values()))

    @property
    def first(self) -> str:
        """The place of the first of them, as ``file:line``."""
        return next(self.places())

    def __str__(self) -> str:
        rows = "1 row" if self.count == 1 else f"{self.count:,} rows"
        return f"{rows} dropped, {self.reason}; the first is {self.first}: {self.detail}"

    def places(self) -> Iterator[str]:
        """The place of each of them, as ``file:line``."""
        return (f"{name}:{line}" for name, lines in self.lines.items() for line in lines)


@dataclass(frozen=True)
class Examples:
    """Sources with their correct references.

    Attributes:
      sources: one text per example.
      references: for each example one or more texts; none for plain text, which has no targets.
      meta: further columns by their names, with one value per example.
      dropped: the rows that were left out, by reason.
    """

    sources: list[str]
    references: list[tuple[str, ...]]
    meta: Mapping[str, list[str]] = field(default_factory=dict)
    dropped: tuple[DroppedRows, ...] = ()

    def __len__(self) -> int:
        return len(self.sources)

    def pairs(self) -> tuple[list[str], list[str]]:
        """Returns training pairs: each source with each of its references."""
        sources = [source for source, these in zip(self.sources, self.references, strict=True) for _ in these]
        return sources, [reference for these in self.references for reference in these]

    def sample(self, count: int) -> Examples:
        """Returns ``count`` evenly spaced examples, as files are often sorted; all if ``count`` is 0 or too large."""
        return self.take(np.arange(count) * len(self) // count) if 0 < count < len(self) else self

    def take(self, indices: Int[np.ndarray, " n"]) -> Examples:
        """Returns the examples of these indices, without ``dropped``."""
        meta = {name: [values[i] for i in indices] for name, values in self.meta.items()}
        return Examples([self.sources[i] for i in indices], [self.references[i] for i in indices], meta)

    def groups(self, name: str) -> dict[str, Int[np.ndarray, " n"]]:
        """Returns the indices of the examples of each value of a meta column, sorted by value.

        Raises:
          KeyError: there is no such column.
        """
        found: dict[str, list[int]] = {}
        for index, value in enumerate(self.meta[name]):
            found.setdefault(value, []).append(index)
        return {value: np.array(found[value]) for value in sorted(found)}
