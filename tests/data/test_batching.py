"""Batch arrays, with the examples of the docstrings."""

import numpy as np
import pytest

from flaxformer_lite.data import batching
from flaxformer_lite.data.batching import OverlengthCounts
from flaxformer_lite.data.ragged import Pairs, Ragged
from flaxformer_lite.data.vocabularies.base import SPECIAL
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary
from flaxformer_lite.errors import InputError


def _ragged(*rows):
    return Ragged(np.concatenate(rows).astype(np.int32), np.cumsum([0, *map(len, rows)]))


def _rows(ragged):
    return [ragged.ids[a:b].tolist() for a, b in zip(ragged.offsets[:-1], ragged.offsets[1:], strict=True)]


def test_tokenize_appends_the_end_token():
    tokens = batching.tokenize(CharacterVocabulary(["a", "b"]), ["ab", "", "b"])
    assert tokens.ids.tolist() == [4, 5, 1, 1, 5, 1]
    assert tokens.offsets.tolist() == [0, 3, 4, 6]
    assert tokens.lengths.tolist() == [3, 1, 2]


def test_limit_lengths_drops_examples_with_either_side_too_long():
    source = _ragged([4, 5, 6, 1], [4, 1], [5, 1], [6, 5, 1])
    target = _ragged([7, 1], [8, 1], [7, 8, 9, 1], [9, 9, 1])
    source, target, kept, counts = batching.limit_lengths(source, target, 3, 3, truncate=False)
    assert _rows(source) == [[4, 1], [6, 5, 1]]
    assert _rows(target) == [[8, 1], [9, 9, 1]]
    assert kept.tolist() == [1, 3]
    assert counts == OverlengthCounts(examples=4, dropped=2, truncated=0)


def test_limit_lengths_truncates_before_the_end_token():
    source = _ragged([4, 5, 6, 1], [4, 1], [5, 1])
    target = _ragged([7, 1], [8, 1], [7, 8, 9, 9, 1])
    source, target, kept, counts = batching.limit_lengths(source, target, 3, 4, truncate=True)
    assert _rows(source) == [[4, 5, 1], [4, 1], [5, 1]]
    assert _rows(target) == [[7, 1], [8, 1], [7, 8, 9, 1]]
    assert kept.tolist() == [0, 1, 2]
    assert counts == OverlengthCounts(examples=3, dropped=0, truncated=2)


@pytest.mark.parametrize("truncate", [False, True])
def test_limit_lengths_keeps_examples_of_the_maximum_length(truncate):
    source, target = _ragged([4, 5, 1], [1]), _ragged([6, 1], [7, 1])
    limited = batching.limit_lengths(source, target, 3, 2, truncate)
    assert (_rows(limited[0]), _rows(limited[1])) == (_rows(source), _rows(target))
    assert limited[3] == OverlengthCounts(2, 0, 0)


def test_limit_lengths_names_the_keys_if_no_example_is_left():
    with pytest.raises(InputError) as error:
        batching.limit_lengths(_ragged([4, 5, 6, 1], [4, 1]), _ragged([7, 1], [8, 8, 8, 8, 1]), 3, 4, truncate=False)
    for part in ("every one of 2", "2 to 4", "max_source_length=3", "2 to 5", "max_target_length=4", "truncate"):
        assert part in str(error.value)


def test_pad():
    tokens = batching.pad(_ragged([4, 5, 1], [6, 1]), np.array([1, -1, 0]), 4, SPECIAL)
    assert tokens.ids.tolist() == [[6, 1, 0, 0], [0, 0, 0, 0], [4, 5, 1, 0]]
    assert tokens.segments.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]]
    assert tokens.positions.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 2, 0]]
    assert {array.dtype for array in tokens} == {np.dtype(np.int32)}


def test_make_batch():
    source, target = _ragged([6, 1], [7, 8, 1], [9, 1]), _ragged([4, 5, 1], [5, 1], [1])
    batch = batching.make_batch(Pairs(source, target).take(np.array([0, 2, -1])), np.array([1, 1, 1]), (3, 4), SPECIAL)
    assert batch.source.ids.tolist() == [[6, 1, 0], [9, 1, 0], [0, 0, 0]]
    assert batch.labels.tolist() == [[4, 5, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert batch.target_in.ids.tolist() == [[2, 4, 5, 0], [2, 0, 0, 0], [0, 0, 0, 0]]
    assert batch.target_in.segments.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert batch.weights.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert batch.weights.dtype == np.float32


def test_pack():
    tokens = batching.pack(_ragged([4, 5, 1], [6, 1], [7, 1]), np.array([2, 0, 1]), 6, SPECIAL)
    assert tokens.ids.tolist() == [[4, 5, 1, 6, 1, 0], [0] * 6, [7, 1, 0, 0, 0, 0]]
    assert tokens.segments.tolist() == [[1, 1, 1, 2, 2, 0], [0] * 6, [1, 1, 0, 0, 0, 0]]
    assert tokens.positions.tolist() == [[0, 1, 2, 0, 1, 0], [0] * 6, [0, 1, 0, 0, 0, 0]]
    assert {array.dtype for array in tokens} == {np.dtype(np.int32)}


def test_a_packed_batch_has_a_begin_token_for_each_target():
    pairs = Pairs(_ragged([6, 1], [7, 8, 1], [9, 1]), _ragged([4, 5, 1], [5, 1], [1]))
    batch = batching.make_batch(pairs, np.array([2, 1]), (5, 6), SPECIAL)
    assert batch.labels.tolist() == [[4, 5, 1, 5, 1, 0], [1, 0, 0, 0, 0, 0]]
    assert batch.target_in.ids.tolist() == [[2, 4, 5, 2, 5, 0], [2, 0, 0, 0, 0, 0]]
    assert batch.target_in.segments.tolist() == [[1, 1, 1, 2, 2, 0], [1, 0, 0, 0, 0, 0]]
    assert batch.source.segments.tolist() == [[1, 1, 2, 2, 2], [1, 1, 0, 0, 0]]
