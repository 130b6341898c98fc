"""Tokenized examples of a split: pairs as they are, or texts of which an objective makes pairs."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int64, UInt64

from flaxformer_lite.data.objectives.base import BoundObjective
from flaxformer_lite.data.ragged import Pairs, Ragged


@runtime_checkable  # for the run-time checks of signatures in tests
class Tokenized(Protocol):
    """The examples of a split, by index."""

    @property
    def arrays(self) -> dict[str, Ragged]:
        """All stored ids, by the name of their side."""
        ...

    def max_lengths(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Returns the largest length that source and target of each example can have."""
        ...

    def pairs(self, indices: Int[np.ndarray, " b"], keys: UInt64[np.ndarray, " b"]) -> Pairs:
        """Returns the pairs of these examples; an index of -1 gives an empty pair. Row i depends on key i only."""
        ...


class TokenizedPairs(NamedTuple):
    """Pairs of supervised tasks."""

    source: Ragged
    target: Ragged

    @property
    def arrays(self) -> dict[str, Ragged]:
        return {"source": self.source, "target": self.target}

    def max_lengths(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        return self.source.lengths, self.target.lengths

    def pairs(self, indices: Int[np.ndarray, " b"], keys: UInt64[np.ndarray, " b"]) -> Pairs:
        del keys
        return Pairs(self.source.take(indices), self.target.take(indices))


class Affixes(NamedTuple):
    """The ids before and after each text of a vocabulary."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.prefix) + len(self.suffix)


class TokenizedTexts(NamedTuple):
    """Texts of which a self-supervised objective makes pairs.

    Attributes:
      texts: without prefix and suffix ids.
      objective: makes pairs.
      source: what surrounds each source.
      target: what surrounds each target.
    """

    texts: Ragged
    objective: BoundObjective
    source: Affixes
    target: Affixes

    @property
    def arrays(self) -> dict[str, Ragged]:
        return {"text": self.texts}

    def max_lengths(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        source, target = self.objective.max_lengths(self.texts.lengths)
        return source + self.source.size, target + self.target.size

    def pairs(self, indices: Int[np.ndarray, " b"], keys: UInt64[np.ndarray, " b"]) -> Pairs:
        is_row = indices >= 0  # rows of padding have no prefix and suffix ids either
        source, target = self.objective(self.texts.take(indices[is_row]), keys[is_row])
        made = Pairs(source.surround(*self.source), target.surround(*self.target))
        return made if is_row.all() else made.take(np.where(is_row, np.cumsum(is_row) - 1, -1))
