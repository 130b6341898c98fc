"""Exact match, word and phone error rates in percent, and edit similarity of two sequences."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

References = Sequence[Sequence[str]]  # for each source, one or more correct ones


def exact_match(hypotheses: Sequence[str], references: References) -> float:
    """Percentage of sources whose hypothesis equals one of the references."""
    return _rate("exact_match", hypotheses, references)


def wer(hypotheses: Sequence[str], references: References) -> float:
    """Word error rate where each source is a word, as in grapheme-to-phoneme conversion: 100 minus the exact match."""
    return 100 - exact_match(hypotheses, references)


def per(hypotheses: Sequence[str], references: References) -> float:
    """Phone error rate: edits per phone in percent against the closest reference; phones are separated by spaces.

    Each hypothesis is compared with the reference that needs the fewest insertions, deletions and substitutions, with
    the first one of ties. Edits, and the lengths of these references, are summed over all sources.
    """
    return _rate("per", hypotheses, references)


def error_counts(name: str, hypotheses: Sequence[str], references: References) -> list[tuple[int, int]]:
    """Returns the numerator and the denominator of ``exact_match``, ``wer`` or ``per`` for each source."""
    check_references(hypotheses, references)
    pairs = list(zip(hypotheses, references, strict=True))
    if name == "per":
        return [_edits(hypothesis.split(), accepted) for hypothesis, accepted in pairs]
    counted = {"exact_match": True, "wer": False}[name]
    return [(int((hypothesis in accepted) == counted), 1) for hypothesis, accepted in pairs]


def edit_similarity(hypothesis: str, reference: str) -> float:
    """100 minus the edits in percent of the longer length, over space-separated tokens as in ``per``."""
    return 100 * Levenshtein.normalized_similarity(hypothesis.split(), reference.split())


def check_references(hypotheses: Sequence[str], references: References) -> None:
    """Raises ``ValueError`` unless there are hypotheses, each with one or more references."""
    if not hypotheses:
        raise ValueError("no hypotheses to score")
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} sources with references")
    for index, accepted in enumerate(references):
        if isinstance(accepted, str) or not accepted:
            raise ValueError(f"source {index} needs a sequence of one or more references, got {accepted!r}")


def _rate(name: str, hypotheses: Sequence[str], references: References) -> float:
    numerator, denominator = map(sum, zip(*error_counts(name, hypotheses, references), strict=True))
    return 100 * numerator / max(denominator, 1)


def _edits(hypothesis: Sequence[str], accepted: Sequence[str]) -> tuple[int, int]:
    """The edits to the closest reference, and its length."""
    references = [reference.split() for reference in accepted]
    pairs = [(Levenshtein.distance(hypothesis, reference), len(reference)) for reference in references]
    return min(pairs, key=lambda pair: pair[0])
