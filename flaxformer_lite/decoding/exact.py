"""Exact search: the most likely of all targets, proven. For short targets, to measure the errors of other searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from flaxformer_lite.types import SpecialIds

# From partial targets to the log-probabilities of the next token of each.
NextLogProbs = Callable[[Sequence[tuple[int, ...]]], Float[np.ndarray, "n v"]]


class ExactResult(NamedTuple):
    """The most likely target of a source.

    Attributes:
      ids: its tokens, the end token included.
      log_prob: log P(Y|X), not normalized by length.
      expanded: number of partial targets that the model has scored.
      proven: whether all other targets are known to be less likely; if not, the budget was used up before.
    """

    ids: tuple[int, ...]
    log_prob: float
    expanded: int
    proven: bool


def exact_search(
    predict: NextLogProbs, known: tuple[tuple[int, ...], float], limit: int, special: SpecialIds, rows: int, budget: int
) -> ExactResult:
    """Depth-first branch and bound (Stahlberg & Byrne 2019, algorithm 1), several partial targets at a time.

    A target is never more likely than a partial target that it begins with. So partial targets that are no more likely
    than the best known target are pruned; the better that is, the more is pruned.

    Args:
      predict: the model, for one source.
      known: a target with its log-probability, such as the result of beam search.
      limit: the largest number of tokens, the end token included.
      special: the ids that begin, end and pad a target.
      rows: partial targets per call of ``predict``.
      budget: the largest number of partial targets to score.
    """
    best, expanded = known, 0
    stack: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]  # the next ones to expand last, the most likely very last
    while stack and expanded < budget:
        chosen = [stack.pop() for _ in range(min(rows, len(stack)))]
        gains = np.asarray(predict([ids for _, ids in chosen]), np.float64)
        expanded += len(chosen)
        for (log_prob, ids), gain in zip(chosen, gains, strict=True):
            if log_prob + gain[special.end] > best[1]:
                best = ((*ids, special.end), float(log_prob + gain[special.end]))
        for (log_prob, ids), gain in zip(reversed(chosen), reversed(gains), strict=True):
            if len(ids) + 1 < limit:
                stack += _children(log_prob, ids, gain, best[1], special)
        stack = [partial_target for partial_target in stack if partial_target[0] > best[1]]
    return ExactResult(*best, expanded, proven=not stack)


def _children(log_prob, ids, gain, bound, special):
    totals = log_prob + gain
    totals[[special.end, special.pad, special.begin]] = -np.inf
    likely = np.flatnonzero(totals > bound)
    return [(float(totals[i]), (*ids, int(i))) for i in likely[np.argsort(totals[likely], kind="stable")]]
