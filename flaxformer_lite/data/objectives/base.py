"""The interface of training objectives: from stored rows of ids to the sources and targets of a batch."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt64

from flaxformer_lite.data.ragged import Pairs, Ragged
from flaxformer_lite.data.vocabularies.base import Vocabulary


@runtime_checkable  # for the run-time checks of signatures in tests
class Objective(Protocol):
    """A self-supervised objective, which makes pairs of a source and a target from text: pure NumPy over whole batches.

    ``data.objective="module:name"`` names a dataclass whose fields are ``data.objective_options``.
    """

    def bind(self, vocabulary: Vocabulary) -> BoundObjective:
        """Returns the objective for the ids of a vocabulary.

        Raises:
          InputError: the vocabulary lacks a special token of the objective.
        """
        ...


@runtime_checkable
class BoundObjective(Protocol):
    """An objective with the ids of a vocabulary."""

    def max_lengths(self, lengths: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Returns the largest lengths of source and target that texts of these lengths can have."""
        ...

    def __call__(self, texts: Ragged, keys: UInt64[np.ndarray, " n"]) -> Pairs:
        """Makes pairs, without the prefix and suffix ids of the vocabularies.

        Args:
          texts: the ids of texts without prefix and suffix ids; an empty row gives an empty pair.
          keys: the randomness of each row, see ``stateless_random``: row i depends on text and key i only.
        """
        ...


def longest_text(objective: BoundObjective, max_source_length: int, max_target_length: int) -> int:
    """Returns the length of the longest text whose source and target fit whatever the random numbers are; 0: none."""
    lengths = np.arange(1, 2 * (max_source_length + max_target_length) + 1)
    source, target = objective.max_lengths(lengths)
    fits = np.logical_and.accumulate((source <= max_source_length) & (target <= max_target_length))
    return int(fits.sum())
