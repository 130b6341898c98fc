"""BLEU and chrF as sacreBLEU computes them (Post 2018), 0 to 100."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from flaxformer_lite.metrics.error_rates import References, check_references


def bleu(hypotheses: Sequence[str], references: References) -> float:
    """Corpus BLEU (Papineni et al. 2002)."""
    return _corpus_score("bleu", hypotheses, references)


def chrf(hypotheses: Sequence[str], references: References) -> float:
    """Corpus chrF2 (Popović 2015)."""
    return _corpus_score("chrf", hypotheses, references)


def sentence_bleu(hypothesis: str, reference: str) -> float:
    """BLEU of one sentence, smoothed, with n-grams up to the length of the hypothesis."""
    return _sentence_score("bleu", hypothesis, reference)


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """chrF2 of one sentence."""
    return _sentence_score("chrf", hypothesis, reference)


def corpus_metric(name: str) -> Any:
    """Returns sacreBLEU's object for corpus ``bleu`` or ``chrf``."""
    from sacrebleu.metrics.bleu import BLEU  # here, because the import takes 0.2 s
    from sacrebleu.metrics.chrf import CHRF

    return {"bleu": BLEU, "chrf": CHRF}[name]()


def transpose_references(references: References) -> list[list[Any]]:
    """Returns sacreBLEU's form of references: the first ones of all sources, the second ones, and so on.

    None stands for a missing reference.
    """
    most = max(len(accepted) for accepted in references)
    return [[accepted[i] if i < len(accepted) else None for accepted in references] for i in range(most)]


def _corpus_score(name: str, hypotheses: Sequence[str], references: References) -> float:
    check_references(hypotheses, references)
    return corpus_metric(name).corpus_score(list(hypotheses), transpose_references(references)).score


def _sentence_score(name: str, hypothesis: str, reference: str) -> float:
    # sacreBLEU returns 0 for two empty sentences, which agree perfectly.
    return 100.0 if hypothesis == reference else _sentence_metric(name).sentence_score(hypothesis, [reference]).score


@cache
def _sentence_metric(name: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU  # here, because the import takes 0.2 s
    from sacrebleu.metrics.chrf import CHRF

    return CHRF() if name == "chrf" else BLEU(effective_order=True)
