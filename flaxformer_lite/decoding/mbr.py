"""Minimum Bayes risk decoding: reranks samples by expected utility, on the host and on text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

Utility = Callable[[str, str], float]  # (hypothesis, reference) → the hypothesis' quality


def by_expected_utility(samples: Sequence[str], utility: Utility) -> list[tuple[str, float]]:
    """The distinct samples with their expected utility, highest first (Eikema & Aziz 2020, equation 4).

    The samples, each of the same weight, stand for the model's distribution, so duplicates count. A sample is also
    compared with itself, which adds the same amount to each. Ties keep their order.

    Example:
      With utility 1 for equal texts and 0 for others, ``["a", "b", "b", "c"]`` gives b 0.5, a 0.25, c 0.25.
    """
    counts = Counter(samples)
    expected = {
        sample: sum(count * utility(sample, other) for other, count in counts.items()) / len(samples)
        for sample in counts
    }
    return sorted(expected.items(), key=lambda item: -item[1])
