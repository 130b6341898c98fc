import numpy as np
import pytest

from flaxformer_lite.decoding.greedy import Greedy
from tests.decoding.fake_models import SPECIAL, VOCABULARY, Recurrent, search


@pytest.fixture
def model():
    return Recurrent.random(seed=3)


def test_takes_the_likeliest_token_until_end_or_limit(model):
    sources, limits = model.sources(seed=1, rows=12), [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9]
    found = search(model, sources, limits, max_length=9, method=Greedy())
    for row, limit in enumerate(limits):
        ids, score = [], 0.0
        while len(ids) < limit and SPECIAL.end not in ids:
            gains = model.log_probs(np.asarray(sources)[row], tuple(ids))
            gains[[SPECIAL.pad, SPECIAL.begin]] = -np.inf
            ids.append(int(np.argmax(gains)))
            score += gains[ids[-1]]
        np.testing.assert_array_equal(found.ids[row, 0], ids + [SPECIAL.pad] * (9 - len(ids)))
        np.testing.assert_allclose(found.scores[row, 0], score, rtol=1e-5)
        assert found.lengths[row, 0] == len(ids)
    ended = np.any(found.ids == SPECIAL.end, axis=-1)
    assert 0 < ended.sum() < len(limits), "both ways to end should be among the cases"


def test_a_row_does_not_depend_on_the_batch_or_the_size_of_the_output(model):
    sources, limits = model.sources(seed=2, rows=5), np.array([7, 3, 5, 7, 6])
    together = search(model, sources, limits, max_length=7, method=Greedy())
    order = np.array([3, 1, 4, 0])
    some = search(model, sources[order], limits[order], max_length=11, method=Greedy())
    np.testing.assert_array_equal(some.ids[:, :, :7], together.ids[order])
    np.testing.assert_array_equal(some.ids[:, :, 7:], SPECIAL.pad)
    np.testing.assert_allclose(some.scores, together.scores[order], rtol=1e-6)


def test_never_says_pad_or_begin():
    model = Recurrent.random(seed=0, bias=(50.0, 0.0, 50.0, 0.0, 0.0, 0.0))
    found = search(model, model.sources(seed=1, rows=3), [4, 4, 4], max_length=4, method=Greedy())
    for row in range(3):
        said = found.ids[row, 0, : found.lengths[row, 0]]
        assert len(said) > 0
        assert not set(said) & {SPECIAL.pad, SPECIAL.begin}


@pytest.mark.parametrize("begin", [SPECIAL.end, SPECIAL.pad])
def test_begin_may_be_the_end_or_the_pad_token(begin):
    model = Recurrent.random(seed=0, bias=tuple(20.0 * (i == SPECIAL.end) for i in range(VOCABULARY)))
    found = search(model, model.sources(seed=1, rows=2), [4, 3], 4, Greedy(), SPECIAL._replace(begin=begin))
    np.testing.assert_array_equal(found.ids[:, 0], [[SPECIAL.end, 0, 0, 0]] * 2)


def test_rows_with_limit_0_are_left_alone(model):
    found = search(model, model.sources(seed=1, rows=3), [0, 4, 0], max_length=4, method=Greedy())
    np.testing.assert_array_equal(found.lengths[[0, 2]], 0)
    np.testing.assert_array_equal(found.scores[[0, 2]], 0)
    assert found.lengths[1, 0] > 0
