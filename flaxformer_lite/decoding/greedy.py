"""Greedy search: the likeliest token at each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flaxformer_lite.decoding.base import Query, Rules, Transform, top_k
from flaxformer_lite.decoding.decode_loop import walk
from flaxformer_lite.types import Cache, Hypotheses, SpecialIds, Step


@dataclass(frozen=True)
class Greedy:
    """Takes the likeliest token until that is the end token, or the limit is reached (then without an end token).

    The score of the one hypothesis is its log-probability.

    Attributes:
      transforms: change what is likeliest.
      ends: tokens besides the end token that end a target.
    """

    transforms: tuple[Transform, ...] = ()
    ends: tuple[int, ...] = ()

    @property
    def beam_size(self) -> int:
        """One hypothesis a source."""
        return 1

    def __call__(
        self, step: Step, cache: Cache, encoded: Any, query: Query, max_length: int, special: SpecialIds
    ) -> Hypotheses:
        """Searches for every row of the batch; see ``search.Search``."""
        rules = Rules(query, self.transforms, special, self.ends)
        return walk(step, cache, encoded, rules, (1, max_length), lambda ranked, length: top_k(ranked, 1)[1][..., 0])
