"""Tokenized examples of a split: pairs as they are, or texts of which an objective makes pairs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int64, UInt64

from flaxformer_lite.data.objectives.base import BoundObjective
from flaxformer_lite.data.ragged import Pairs, Ragged, to_offsets
from flaxformer_lite.data.stateless_random import fold_in
from flaxformer_lite.data.vocabularies.subword_sampling import SubwordSampler


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


class SampledTexts(NamedTuple):
    """The texts of one side, which are segmented anew each time they are used.

    Attributes:
      texts: of each example.
      affixes: what surrounds each of them.
      sampler: segments them.
      max_length: that no text exceeds, with what surrounds it.
    """

    texts: Sequence[str]
    affixes: Affixes
    sampler: SubwordSampler
    max_length: int

    def max_lengths(self, usual: Ragged) -> Int64[np.ndarray, " n"]:
        """The largest lengths, half above those of the usual segmentation."""
        return self._max_length(usual.lengths)

    def take(self, usual: Ragged, indices: Int[np.ndarray, " b"], keys: UInt64[np.ndarray, " b"]) -> Ragged:
        """Segments the texts of these indices; one that is truncated keeps its usual ids."""
        rows: list[list[int]] = []
        for i, key in zip(map(int, indices), keys, strict=True):
            before = usual.ids[usual.offsets[i] : usual.offsets[i + 1]].tolist() if i >= 0 else []
            longest = int(self._max_length(len(before)))
            sampled = self.sampler.sample(self.texts[i], key, longest - len(before)) if before else []
            ids = [*self.affixes.prefix, *sampled, *self.affixes.suffix]
            rows.append(ids if before and len(ids) <= longest else before)
        ids = np.fromiter(itertools.chain.from_iterable(rows), np.int32)
        return Ragged(ids, to_offsets(np.array([len(row) for row in rows], np.int64)), usual.num_protected_tail)

    def _max_length(self, length: Any) -> Any:
        """That of a text with this length in its usual segmentation, or of several."""
        return np.minimum(length + length // 2, self.max_length)


class SampledPairs(NamedTuple):
    """Pairs of supervised tasks, of which one or both sides are segmented anew each time.

    Attributes:
      usual: their ids without sampling.
      source: how sources are sampled; None: not at all.
      target: how targets are sampled; None: not at all.
    """

    usual: TokenizedPairs
    source: SampledTexts | None
    target: SampledTexts | None

    @property
    def arrays(self) -> dict[str, Ragged]:
        return self.usual.arrays

    def max_lengths(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        source, target = self.usual
        return (
            self.source.max_lengths(source) if self.source else source.lengths,
            self.target.max_lengths(target) if self.target else target.lengths,
        )

    def pairs(self, indices: Int[np.ndarray, " b"], keys: UInt64[np.ndarray, " b"]) -> Pairs:
        source, target = self.usual
        return Pairs(
            self.source.take(source, indices, keys) if self.source else source.take(indices),
            self.target.take(target, indices, fold_in(keys, 1)) if self.target else target.take(indices),
        )


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
