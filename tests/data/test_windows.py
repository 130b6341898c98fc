"""Windows contain every token in order."""

import numpy as np
import pytest

from flaxformer_lite.data.ragged import to_ragged
from flaxformer_lite.data.windows import split_windows


def _split(row, longest, overlap, ends=None):
    ragged = to_ragged([row])
    allowed = np.ones(len(row), bool) if ends is None else np.isin(row, ends)
    windows = split_windows(ragged, longest, overlap, allowed)
    return [windows.ids[a:b].tolist() for a, b in zip(windows.offsets[:-1], windows.offsets[1:], strict=True)]


def test_the_examples_of_the_docstring():
    row = [1, 2, 3, 4, 5, 6, 7]
    assert _split(row, 4, 1) == [[1, 2, 3, 4], [4, 5, 6, 7]]
    assert _split(row, 4, 0, ends=[2, 5]) == [[1, 2], [3, 4, 5], [6, 7]]


@pytest.mark.parametrize("seed", range(20))
def test_windows_contain_every_token(seed):
    random = np.random.default_rng(seed)
    longest = int(random.integers(2, 9))
    overlap = int(random.integers(0, longest))
    rows = [list(range(100 * i, 100 * i + n)) for i, n in enumerate(random.integers(0, 40, 8))]
    ragged = to_ragged(rows)
    windows = split_windows(ragged, longest, overlap, random.random(len(ragged.ids)) < 0.2)
    assert windows.lengths.max(initial=0) <= longest
    rejoined: list[int] = []
    for a, b in zip(windows.offsets[:-1], windows.offsets[1:], strict=True):
        window = windows.ids[a:b].tolist()
        shared = [token for token in window if token in rejoined[-longest:]]
        assert window[: len(shared)] == shared
        assert len(shared) <= overlap
        rejoined += window[len(shared) :]
    assert rejoined == [token for row in rows for token in row]


def test_short_texts_stay_as_they_are():
    assert _split([1, 2, 3], 3, 2) == [[1, 2, 3]]
