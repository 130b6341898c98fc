"""Exact search: the likeliest target of all, proven. For short targets, to know what other searches miss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from flaxformer_lite.types import SpecialIds

# From some beginnings of a target to the log-probability of each token to be the next one.
Predict = Callable[[Sequence[tuple[int, ...]]], Float[np.ndarray, "n v"]]


class Exact(NamedTuple):
    """The likeliest target of a source.

    Attributes:
      ids: its tokens, the end token included.
      log_prob: log P(Y|X), nothing normalized.
      read: number of beginnings that the model has read.
      proven: whether all others are less likely; if not, the budget was spent before that was known.
    """

    ids: tuple[int, ...]
    log_prob: float
    read: int
    proven: bool


def exact_search(
    predict: Predict, known: tuple[tuple[int, ...], float], limit: int, special: SpecialIds, rows: int, budget: int
) -> Exact:
    """Depth-first branch and bound (Stahlberg & Byrne 2019, algorithm 1), several beginnings at a time.

    A target is never likelier than its beginning; so what is no likelier than the best target known is left alone, and
    the better that is, the less there is to do.

    Args:
      predict: the model, for one source.
      known: some target and its log-probability, such as beam search found.
      limit: the largest number of tokens, the end token included.
      special: the ids that begin, end and pad a target.
      rows: beginnings read together.
      budget: beginnings read at most.
    """
    best, read = known, 0
    open_: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]  # the next ones to read at the end, the likeliest last
    while open_ and read < budget:
        chosen = [open_.pop() for _ in range(min(rows, len(open_)))]
        gains = np.asarray(predict([ids for _, ids in chosen]), np.float64)
        read += len(chosen)
        for (log_prob, ids), gain in zip(chosen, gains, strict=True):
            if log_prob + gain[special.end] > best[1]:
                best = ((*ids, special.end), float(log_prob + gain[special.end]))
        for (log_prob, ids), gain in zip(reversed(chosen), reversed(gains), strict=True):
            if len(ids) + 1 < limit:
                open_ += _children(log_prob, ids, gain, best[1], special)
        open_ = [beginning for beginning in open_ if beginning[0] > best[1]]
    return Exact(*best, read, proven=not open_)


def _children(log_prob, ids, gain, bound, special):
    totals = log_prob + gain
    totals[[special.end, special.pad, special.begin]] = -np.inf
    likely = np.flatnonzero(totals > bound)
    return [(float(totals[i]), (*ids, int(i))) for i in likely[np.argsort(totals[likely], kind="stable")]]
