import pytest
import sacrebleu

from flaxformer_lite.metrics import scorers

HYPOTHESES = ["K AE T", "D AO G", "", "B ER D Z"]
REFERENCES = [("K AE T",), ("D AA G", "D AO G"), ("IH T",), ("B ER D", "B ER T S AH")]


def test_exact_match_and_wer_take_any_reference():
    assert scorers.exact_match(HYPOTHESES, REFERENCES) == 50.0
    assert scorers.wer(HYPOTHESES, REFERENCES) == 50.0
    assert scorers.exact_match(["a"], [("A",)]) == 0.0
    assert scorers.wer(["a", "b", "c"], [("a",), ("b",), ("c",)]) == 0.0


def test_per_sums_edits_and_lengths_of_the_closest_references():
    # 0 of 3 phones; 0 of 3 against the second reference; 2 deletions of 2; 1 insertion against "B ER D", of 3.
    assert scorers.per(HYPOTHESES, REFERENCES) == pytest.approx(100 * 3 / 11)


def test_per_takes_the_first_of_equally_close_references():
    assert scorers.per(["a b"], [("a b c", "a c")]) == pytest.approx(100 / 3)
    assert scorers.per(["a b"], [("a c", "a b c")]) == pytest.approx(50.0)


def test_per_may_exceed_100_and_counts_phones_not_letters():
    assert scorers.per(["AE AE AE"], [("T",)]) == pytest.approx(300.0)
    assert scorers.per(["AEX T"], [("AE T",)]) == pytest.approx(50.0)
    assert scorers.per([""], [("",)]) == 0.0


def test_bleu_and_chrf_are_those_of_sacrebleu():
    said = ["the cat sat on the mat", "there is a small dog here", "hello world again my friends"]
    right = ["the cat sat on a mat", "there is a little dog here", "hello world once more my friends"]
    one_each = [(reference,) for reference in right]
    assert scorers.bleu(said, one_each) == pytest.approx(sacrebleu.corpus_bleu(said, [right]).score)
    assert scorers.chrf(said, one_each) == pytest.approx(sacrebleu.corpus_chrf(said, [right]).score)
    assert 20 < scorers.bleu(said, one_each) < 80


def test_bleu_and_chrf_take_a_varying_number_of_references():
    said = ["the cat sat on the mat", "there is a small dog here"]
    few = [("the cat sat on a mat",), ("there is a little dog here",)]
    more = [few[0], (*few[1], said[1])]
    assert scorers.bleu(said, few) < scorers.bleu(said, more) < 100
    assert scorers.chrf(said, few) < scorers.chrf(said, more) < 100
    assert scorers.bleu(said, [(text,) for text in said]) == pytest.approx(100)


def test_signature_tells_references_and_settings():
    assert scorers.signature("bleu", ["a b"], [("a b",)]).startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|")
    assert scorers.signature("chrf", ["a", "b"], [("a",), ("b", "c")]).startswith("nrefs:var|case:mixed|eff:yes|nc:6")


def test_compute_gives_the_named_metrics_in_their_order():
    found = scorers.compute(("wer", "exact_match", "per"), HYPOTHESES, REFERENCES)
    assert list(found) == ["wer", "exact_match", "per"]
    assert found["per"] == scorers.per(HYPOTHESES, REFERENCES)
    assert scorers.compute((), HYPOTHESES, REFERENCES) == {}


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([], [], "nothing to score"),
        (["a", "b"], [("a",)], "2 hypotheses for 1 sources"),
        (["a", "b"], [("a",), ()], "source 1 needs"),
        (["a"], ["a"], "source 0 needs"),
    ],
)
@pytest.mark.parametrize("name", ["exact_match", "wer", "per", "bleu", "chrf"])
def test_sizes_that_do_not_fit_are_refused(name, hypotheses, references, message):
    with pytest.raises(ValueError, match=message):
        scorers.compute((name,), hypotheses, references)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="rouge"):
        scorers.compute(("wer", "rouge"), ["a"], [("a",)])
    with pytest.raises(ValueError, match="rouge"):
        scorers.lower_is_better("rouge")


def test_every_metric_knows_its_better_side():
    assert all(scorers.lower_is_better(name) for name in ("loss", "wer", "per"))
    assert not any(scorers.lower_is_better(name) for name in ("token_accuracy", "exact_match", "bleu", "chrf"))


@pytest.mark.parametrize("name", ["chrf", "bleu", "edit_distance"])
def test_utilities_are_100_for_the_same_and_less_for_others(name):
    utility = scorers.UTILITIES[name]
    for text in ("", "K", "K AE T", "the cat sat on the mat"):
        assert utility(text, text) == pytest.approx(100)
    assert 0 < utility("K AE T S", "K AE T") < 100
    assert utility("K AE T", "K AE T S") > utility("K IH T", "K AE T S") > utility("", "K AE T S")
    assert utility("", "K") == utility("K", "") == 0


def test_utilities_are_sacrebleus_and_rapidfuzzs():
    said, right = "the cat sat on a mat", "the cat lay on the mat"
    assert scorers.sentence_chrf(said, right) == pytest.approx(sacrebleu.sentence_chrf(said, [right]).score)
    assert scorers.sentence_bleu(said, right) == pytest.approx(
        sacrebleu.sentence_bleu(said, [right], use_effective_order=True).score
    )
    assert scorers.edit_similarity(said, right) == pytest.approx(100 * (1 - 2 / 6))
