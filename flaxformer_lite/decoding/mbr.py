"""Minimum Bayes risk: of several samples, the one that agrees best with all of them. Runs on the host, on text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

Utility = Callable[[str, str], float]  # (hypothesis, reference) → how good the hypothesis would be, were that right


def by_expected_utility(samples: Sequence[str], utility: Utility) -> list[tuple[str, float]]:
    """The distinct samples with their expected utility, highest first (Eikema & Aziz 2020, equation 4).

    The model's distribution is represented by the samples, each of the same weight, so that one drawn twice counts
    twice. A sample is compared with itself too, which adds as much to each. Equally good ones stay in their order.

    Example:
      With 1 for equal texts and 0 for others, ``["a", "b", "b", "c"]`` gives b 0.5, a 0.25, c 0.25.
    """
    counts = Counter(samples)
    expected = {
        sample: sum(count * utility(sample, other) for other, count in counts.items()) / len(samples)
        for sample in counts
    }
    return sorted(expected.items(), key=lambda item: -item[1])
