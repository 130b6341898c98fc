import pytest

from flaxformer_lite.decoding.mbr import by_expected_utility


def same(hypothesis, reference):
    return float(hypothesis == reference)


def longer(hypothesis, reference):
    return float(len(hypothesis) > len(reference))


def test_duplicates_count_and_ties_keep_their_order():
    assert by_expected_utility(["a", "b", "b", "c"], same) == [("b", 0.5), ("a", 0.25), ("c", 0.25)]
    assert by_expected_utility(["c", "a"], same) == [("c", 0.5), ("a", 0.5)]


def test_utilities_need_not_be_symmetric():
    found = by_expected_utility(["aa", "a", "aaa", "a", "aa"], longer)
    assert [text for text, _ in found] == ["aaa", "aa", "a"]
    assert [utility for _, utility in found] == pytest.approx([4 / 5, 2 / 5, 0])


def test_the_most_similar_sample_is_ranked_above_the_most_likely():
    """Utility: number of equal letters at the same positions."""
    overlap = lambda one, other: sum(a == b for a, b in zip(one, other, strict=True))  # noqa: E731
    samples = ["xxxx", "abcd", "abce", "abfd", "agcd"]  # the likeliest first
    assert by_expected_utility(samples, overlap)[0] == ("abcd", (0 + 4 + 3 + 3 + 3) / 5)


def test_one_sample_and_no_samples():
    assert by_expected_utility(["a"], same) == [("a", 1.0)]
    assert by_expected_utility([], same) == []
