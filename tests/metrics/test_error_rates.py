import pytest

from flaxformer_lite.metrics.error_rates import exact_match, per, wer

HYPOTHESES = ["K AE T", "D AO G", "", "B ER D Z"]
REFERENCES = [("K AE T",), ("D AA G", "D AO G"), ("IH T",), ("B ER D", "B ER T S AH")]


def test_exact_match_and_wer_accept_any_reference():
    assert exact_match(HYPOTHESES, REFERENCES) == 50.0
    assert wer(HYPOTHESES, REFERENCES) == 50.0
    assert exact_match(["a"], [("A",)]) == 0.0
    assert wer(["a", "b", "c"], [("a",), ("b",), ("c",)]) == 0.0


def test_per_sums_edits_and_lengths_of_the_closest_references():
    # 0 of 3 phones; 0 of 3 against the second reference; 2 deletions of 2; 1 insertion against "B ER D", of 3.
    assert per(HYPOTHESES, REFERENCES) == pytest.approx(100 * 3 / 11)


def test_per_uses_the_first_of_equally_close_references():
    assert per(["a b"], [("a b c", "a c")]) == pytest.approx(100 / 3)
    assert per(["a b"], [("a c", "a b c")]) == pytest.approx(50.0)


def test_per_can_exceed_100_and_counts_phones_not_letters():
    assert per(["AE AE AE"], [("T",)]) == pytest.approx(300.0)
    assert per(["AEX T"], [("AE T",)]) == pytest.approx(50.0)
    assert per([""], [("",)]) == 0.0
