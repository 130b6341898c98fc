"""How good decoded text is: percentages (BLEU and chrF points) of hypotheses against one or more references each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from rapidfuzz.distance import Levenshtein

References = Sequence[Sequence[str]]  # for each source all that are right


def exact_match(hypotheses: Sequence[str], references: References) -> float:
    """Percentage of sources whose hypothesis equals one of the references."""
    _check(hypotheses, references)
    right = sum(hypothesis in accepted for hypothesis, accepted in zip(hypotheses, references, strict=True))
    return 100 * right / len(hypotheses)


def wer(hypotheses: Sequence[str], references: References) -> float:
    """Word error rate where each source is a word, as in grapheme-to-phoneme conversion: 100 less the exact match."""
    return 100 - exact_match(hypotheses, references)


def per(hypotheses: Sequence[str], references: References) -> float:
    """Phone error rate: edits per phone, in percent, against the closest reference. Phones stand between spaces.

    Each hypothesis is compared with the reference that takes the fewest insertions, deletions and substitutions, of
    equally close ones with the first. Edits are summed over all sources, and so are the lengths of those references.
    """
    edits, phones = map(sum, zip(*counts("per", hypotheses, references), strict=True))
    return 100 * edits / max(phones, 1)


def bleu(hypotheses: Sequence[str], references: References) -> float:
    """Corpus BLEU as sacreBLEU computes it (Papineni et al. 2002; Post 2018), 0 to 100."""
    return _sacrebleu("bleu", hypotheses, references)[0]


def chrf(hypotheses: Sequence[str], references: References) -> float:
    """Corpus chrF2 as sacreBLEU computes it (Popović 2015), 0 to 100."""
    return _sacrebleu("chrf", hypotheses, references)[0]


_METRICS: dict[str, Callable[[Sequence[str], References], float]] = {
    "exact_match": exact_match,
    "wer": wer,
    "per": per,
    "bleu": bleu,
    "chrf": chrf,
}
COMPUTED = tuple(_METRICS)


def compute(names: Sequence[str], hypotheses: Sequence[str], references: References) -> dict[str, float]:
    """The metrics of these names.

    Args:
      names: any of exact_match, wer, per, bleu, chrf.
      hypotheses: one for each source.
      references: for each source, one or more.

    Raises:
      ValueError: there is no such metric, nothing to score, or not a reference for each hypothesis.
    """
    unknown = set(names) - set(_METRICS)
    if unknown:
        raise ValueError(f"no metrics are named {sorted(unknown)}; there are {', '.join(_METRICS)}")
    return {name: _METRICS[name](hypotheses, references) for name in names}


def counts(name: str, hypotheses: Sequence[str], references: References) -> list[tuple[int, int]]:
    """What exact_match, wer and per are shares of: for each source, how many count of how many."""
    _check(hypotheses, references)
    pairs = list(zip(hypotheses, references, strict=True))
    if name == "per":
        return [_edits(hypothesis.split(), accepted) for hypothesis, accepted in pairs]
    wanted = {"exact_match": True, "wer": False}[name]
    return [(int((hypothesis in accepted) == wanted), 1) for hypothesis, accepted in pairs]


def _edits(said: Sequence[str], accepted: Sequence[str]) -> tuple[int, int]:
    """The edits to the closest reference and its length."""
    spoken = [reference.split() for reference in accepted]
    return min(((Levenshtein.distance(said, phones), len(phones)) for phones in spoken), key=lambda pair: pair[0])


def lower_is_better(name: str) -> bool:
    """Whether a metric counts errors. Knows ``loss`` and ``token_accuracy`` too, which are not computed here."""
    if name in ("loss", "wer", "per"):
        return True
    if name in ("token_accuracy", "exact_match", "bleu", "chrf"):
        return False
    raise ValueError(f"no metric is named {name!r}")


def signature(name: str, hypotheses: Sequence[str], references: References) -> str:
    """The settings of sacreBLEU behind a figure of ``bleu`` or ``chrf``, to be published with it."""
    return _sacrebleu(name, hypotheses, references)[1]


def sentence_bleu(hypothesis: str, reference: str) -> float:
    """BLEU of one sentence as sacreBLEU computes it: smoothed, of n-grams up to the hypothesis' length; 0 to 100."""
    return _of_a_sentence("bleu", hypothesis, reference)


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """chrF2 of one sentence as sacreBLEU computes it, 0 to 100."""
    return _of_a_sentence("chrf", hypothesis, reference)


def edit_similarity(hypothesis: str, reference: str) -> float:
    """100 less the edits in percent of the longer one's length, of what stands between spaces as in ``per``."""
    return 100 * Levenshtein.normalized_similarity(hypothesis.split(), reference.split())


UTILITIES: dict[str, Callable[[str, str], float]] = {
    "chrf": sentence_chrf,
    "bleu": sentence_bleu,
    "edit_distance": edit_similarity,
}


def _of_a_sentence(name: str, hypothesis: str, reference: str) -> float:
    # sacreBLEU gives 0 where there is nothing to compare; yet saying nothing agrees with saying nothing.
    return 100.0 if hypothesis == reference else _sentence_metric(name).sentence_score(hypothesis, [reference]).score


@cache
def _sentence_metric(name: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU  # here, because it takes 0.2 s that most runs do not need
    from sacrebleu.metrics.chrf import CHRF

    return CHRF() if name == "chrf" else BLEU(effective_order=True)


def corpus_metric(name: str) -> Any:
    """``bleu`` or ``chrf`` as sacreBLEU has it."""
    from sacrebleu.metrics.bleu import BLEU  # here, because it takes 0.2 s that most runs do not need
    from sacrebleu.metrics.chrf import CHRF

    return {"bleu": BLEU, "chrf": CHRF}[name]()


def by_rank(references: References) -> list[list[Any]]:
    """As sacreBLEU wants them: a list of all sources' first references, one of the second, …; None: there is none."""
    most = max(len(accepted) for accepted in references)
    return [[accepted[i] if i < len(accepted) else None for accepted in references] for i in range(most)]


def _sacrebleu(name: str, hypotheses: Sequence[str], references: References) -> tuple[float, str]:
    _check(hypotheses, references)
    metric = corpus_metric(name)
    score = metric.corpus_score(list(hypotheses), by_rank(references)).score
    return score, str(metric.get_signature())


def _check(hypotheses: Sequence[str], references: References) -> None:
    if not hypotheses:
        raise ValueError("there is nothing to score: no hypotheses")
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} sources with references")
    for index, accepted in enumerate(references):
        if isinstance(accepted, str) or not accepted:
            raise ValueError(f"source {index} needs a sequence of one or more references, got {accepted!r}")
