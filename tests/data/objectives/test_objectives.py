"""Properties of the self-supervised objectives over random lengths and settings."""

import numpy as np
import pytest

from flaxformer_lite.data.objectives.bart import Bart, infill, permute_sentences, rotate
from flaxformer_lite.data.objectives.base import longest_text
from flaxformer_lite.data.objectives.prefix_lm import PrefixLm
from flaxformer_lite.data.objectives.span_corruption import SpanCorruption, count_noise, replace_spans
from flaxformer_lite.data.objectives.ul2 import Ul2
from flaxformer_lite.data.ragged import Ragged, to_offsets, to_ragged
from flaxformer_lite.data.stateless_random import make_keys, random_subsets
from flaxformer_lite.errors import InputError
from tests.data.objectives.fake_vocabulary import FIRST, MASK, NUM_SENTINELS, PERIOD, FakeVocabulary

VOCABULARY = FakeVocabulary()
OBJECTIVES = [
    SpanCorruption(),
    SpanCorruption(0.5, 1.0),
    SpanCorruption(0.9, 7.5),
    Ul2(),
    PrefixLm(),
    Bart(),
    Bart(0.6, 0.5, masking_rate=0.1, deletion_rate=0.2, rotation_rate=0.5),
]


def _texts(lengths) -> Ragged:
    """Texts of distinct tokens, some of which end sentences."""
    offsets = to_offsets(np.asarray(lengths))
    random = np.random.default_rng(len(lengths))
    ids = random.integers(FIRST, VOCABULARY.size - NUM_SENTINELS, offsets[-1])
    return Ragged(np.where(random.random(len(ids)) < 0.1, PERIOD, ids).astype(np.int32), offsets, 0)


def _rows(ragged: Ragged) -> list[list[int]]:
    return [ragged.ids[a:b].tolist() for a, b in zip(ragged.offsets[:-1], ragged.offsets[1:], strict=True)]


LENGTHS = [0, 1, 2, 3, 5, 17, 0, 64, 111, 1]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_lengths_are_within_their_bounds(objective):
    bound, texts = objective.bind(VOCABULARY), _texts(LENGTHS * 20)
    source, target = bound(texts, make_keys(3, np.arange(len(texts.lengths))))
    for side, longest in zip((source, target), bound.max_lengths(texts.lengths), strict=True):
        assert (side.lengths <= longest).all()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_a_row_depends_on_its_text_and_key_only(objective):
    bound, texts = objective.bind(VOCABULARY), _texts(LENGTHS * 5)
    keys = make_keys(1, np.arange(50))
    source, target = bound(texts, keys)
    chosen = np.array([33, 7, 8, 4])
    some = bound(texts.take(chosen), keys[chosen])
    assert _rows(some.source) == _rows(source.take(chosen))
    assert _rows(some.target) == _rows(target.take(chosen))
    other = bound(texts, make_keys(2, np.arange(50)))
    assert _rows(other.source) != _rows(source)


def _rejoined(source: list[int], target: list[int], sentinels: list[int]) -> list[int]:
    """The text of a source and its target."""
    spans: dict[int, list[int]] = {}
    span: list[int] = []
    for token in target:
        if token in sentinels:
            span = spans.setdefault(token, [])
        else:
            span.append(token)
    assert list(spans) == sentinels[: len(spans)]
    return [inner for token in source for inner in spans.get(token, [token])]


@pytest.mark.parametrize("density", [0.01, 0.15, 0.5, 0.95])
@pytest.mark.parametrize("mean", [1.0, 3.0, 30.0])
def test_span_corruption_loses_no_token(density, mean):
    bound = SpanCorruption(density, mean).bind(VOCABULARY)
    lengths = np.random.default_rng(0).integers(0, 90, 300)
    texts = _texts(lengths)
    source, target = bound(texts, make_keys(5, np.arange(300)))
    sentinels = [VOCABULARY.size - 1 - i for i in range(NUM_SENTINELS)]
    rejoined = [_rejoined(s, t, sentinels) for s, t in zip(_rows(source), _rows(target), strict=True)]
    assert rejoined == _rows(texts)
    num_noise, num_spans = count_noise(lengths, density, mean, NUM_SENTINELS)
    assert (target.lengths == num_noise + num_spans).all()
    assert (source.lengths == lengths - num_noise + num_spans).all()


def test_ul2_loses_no_token_and_starts_with_the_mode():
    texts = _texts(np.arange(2, 200))
    source, target = Ul2().bind(VOCABULARY)(texts, make_keys(5, np.arange(198)))
    sentinels = [VOCABULARY.size - 1 - i for i in range(NUM_SENTINELS)]
    modes = set()
    for text, s, t in zip(_rows(texts), _rows(source), _rows(target), strict=True):
        assert _rejoined(s[1:], t, sentinels) == text
        modes.add(s[0])
        if s[0] == 8:
            assert s[-1] == sentinels[0]
    assert modes == {6, 7, 8}


def test_prefix_lm_splits_texts():
    texts = _texts([0, 1, 2, 3] + [7] * 200)
    source, target = PrefixLm().bind(VOCABULARY)(texts, make_keys(0, np.arange(204)))
    assert [s + t for s, t in zip(_rows(source), _rows(target), strict=True)] == _rows(texts)
    assert set(source.lengths[4:]) == {1, 2, 3, 4, 5, 6}


def test_replace_spans_by_hand():
    texts = to_ragged([[10, 11, 12, 13], [14, 15], [], [16]])
    noise = np.array([1, 1, 0, 1, 1, 0, 0], bool)
    source, target = replace_spans(texts, noise, np.array([99, 98], np.int32))
    assert _rows(source) == [[99, 12, 98], [99, 15], [], [16]]
    assert _rows(target) == [[99, 10, 11, 98, 13], [99, 14], [], []]


def test_noise_of_every_place_is_equally_likely_and_partitions_are_uniform():
    """Of 5 tokens 2 are noise in 2 spans: the partitions (1, 1, 1) and so on of 3 others into 2 parts."""
    texts = _texts([5] * 6_000)
    source, _ = SpanCorruption(0.4, 1.0).bind(VOCABULARY)(texts, make_keys(0, np.arange(6_000)))
    is_sentinel = (source.ids >= VOCABULARY.size - NUM_SENTINELS).reshape(6_000, -1)
    _, counts = np.unique(is_sentinel, axis=0, return_counts=True)
    assert len(counts) == 2  # others are divided into 1 + 2 or 2 + 1
    assert np.abs(counts / 6_000 - 1 / 2).max() < 0.03


def test_counts_are_those_of_t5():
    """The two lines of random_spans_noise_mask in t5.data.preprocessors that compute them."""
    for length in range(2, 600):
        for density, mean in ((0.15, 3.0), (0.5, 8.0), (0.3, 1.5)):
            num_noise = min(max(int(np.round(length * density)), 1), length - 1)
            num_spans = max(int(np.round(num_noise / mean)), 1)
            found = count_noise(np.array([length]), density, mean, 10**6)
            assert [int(value[0]) for value in found] == [num_noise, min(num_spans, length - num_noise)]


def test_infilling_statistics():
    texts = _texts([200] * 2_000)
    source = infill(texts, 0.3, 3.0, MASK, make_keys(0, np.arange(2_000)))
    masks = np.array([row.count(MASK) for row in _rows(source)])
    kept = source.lengths - masks
    assert (kept == 140).all()  # 60 of 200 tokens are in spans
    assert abs(masks.mean() - 20) < 0.6  # 60 tokens in Poisson spans of mean 3, of which e⁻³ have length 0
    for text, row in zip(_rows(texts), _rows(source), strict=True):
        rest = iter(text)
        assert all(token in rest for token in row if token != MASK)  # a subsequence


def test_infilling_and_rotation_are_uniform_over_places():
    texts = _texts([4] * 4_000)
    source = infill(texts, 0.25, 50.0, MASK, make_keys(1, np.arange(4_000)))  # one span of one token
    places = np.argmax(source.ids.reshape(4_000, 4) == MASK, axis=1)
    assert np.abs(np.bincount(places, minlength=4) / 4_000 - 1 / 4).max() < 0.03
    rows = to_ragged([[10, 11, 12, 13]] * 4_000)
    first = rotate(rows, 1.0, make_keys(2, np.arange(4_000))).ids[::4]
    assert np.abs(np.bincount(first - 10) / 4_000 - 1 / 4).max() < 0.03


def test_sentences_are_permuted_whole():
    ends = np.zeros(200, bool)
    ends[PERIOD] = True
    text = [10, PERIOD, 11, 12, PERIOD, 13]
    texts = to_ragged([text, [], [14], text] + [text] * 600)
    rows = _rows(permute_sentences(texts, ends, make_keys(0, np.arange(604))))
    assert rows[1:3] == [[], [14]]
    counts = {}
    for row in [rows[0], *rows[3:]]:
        counts[tuple(row)] = counts.get(tuple(row), 0) + 1
    sentences = [10, PERIOD], [11, 12, PERIOD], [13]
    orders = {(*sentences[a], *sentences[b], *sentences[3 - a - b]) for a in range(3) for b in range(3) if a != b}
    assert set(counts) == orders
    assert min(counts.values()) > 60


@pytest.mark.parametrize(("objective", "limits"), [(SpanCorruption(), (512, 114)), (Ul2(), (50, 50)), (Bart(), (9, 7))])
def test_longest_text_fits_and_the_next_one_does_not(objective, limits):
    bound = objective.bind(FakeVocabulary(size=1_000))
    length = longest_text(bound, *limits)
    source, target = bound.max_lengths(np.array([length, length + 1]))
    assert source[0] <= limits[0]
    assert target[0] <= limits[1]
    assert source[1] > limits[0] or target[1] > limits[1]


def test_a_vocabulary_without_the_tokens_is_an_error():
    class Plain(FakeVocabulary):
        @property
        def special_tokens(self):
            return {}

    for objective in (SpanCorruption(), Ul2(), Bart()):
        with pytest.raises(InputError, match="the vocabulary has no"):
            objective.bind(Plain())


def test_subsets_of_more_rows_than_are_sorted_together():
    """Row i depends on key i only, so many rows give what each of them gives alone."""
    count = 2**16 + 3
    keys = make_keys(4, np.arange(count))
    chosen, rows = random_subsets(keys, np.full(count, 5), np.full(count, 2))
    assert rows.tolist() == np.repeat(np.arange(count), 2).tolist()
    assert chosen.min() == 0
    assert chosen.max() == 4
    last, _ = random_subsets(keys[-3:], np.full(3, 5), np.full(3, 2))
    assert chosen[-6:].tolist() == last.tolist()
