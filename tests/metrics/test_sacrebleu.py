import pytest
import sacrebleu

from flaxformer_lite.metrics.error_rates import edit_similarity
from flaxformer_lite.metrics.sacrebleu import bleu, chrf, sentence_bleu, sentence_chrf


def test_corpus_scores_equal_sacrebleu():
    hypotheses = ["the cat sat on the mat", "there is a small dog here", "hello world again my friends"]
    references = ["the cat sat on a mat", "there is a little dog here", "hello world once more my friends"]
    one_each = [(reference,) for reference in references]
    assert bleu(hypotheses, one_each) == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score)
    assert chrf(hypotheses, one_each) == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score)
    assert 20 < bleu(hypotheses, one_each) < 80


def test_numbers_of_references_can_vary():
    hypotheses = ["the cat sat on the mat", "there is a small dog here"]
    few = [("the cat sat on a mat",), ("there is a little dog here",)]
    more = [few[0], (*few[1], hypotheses[1])]
    assert bleu(hypotheses, few) < bleu(hypotheses, more) < 100
    assert chrf(hypotheses, few) < chrf(hypotheses, more) < 100
    assert bleu(hypotheses, [(text,) for text in hypotheses]) == pytest.approx(100)


def test_sentence_scores_equal_sacrebleu_and_rapidfuzz():
    hypothesis, reference = "the cat sat on a mat", "the cat lay on the mat"
    assert sentence_chrf(hypothesis, reference) == pytest.approx(sacrebleu.sentence_chrf(hypothesis, [reference]).score)
    assert sentence_bleu(hypothesis, reference) == pytest.approx(
        sacrebleu.sentence_bleu(hypothesis, [reference], use_effective_order=True).score
    )
    assert edit_similarity(hypothesis, reference) == pytest.approx(100 * (1 - 2 / 6))
