"""Vocabularies of tag bundles with characters, and of integers."""

import json

import pytest

from flaxformer_lite.data.vocabularies.base import NUM_SPECIAL, SPECIAL, UNKNOWN_CHARACTER
from flaxformer_lite.data.vocabularies.build import build_vocabulary
from flaxformer_lite.data.vocabularies.saved import difference, from_json
from flaxformer_lite.errors import InputError
from tests.data.vocabularies.vocabulary_configs import vocabulary_config

_KEY = "config.data.source_vocabulary"
_INFLECTIONS = ["innian V;SBJV;PL;PST", "wāc ADJ;INS", "Vā N;PL"] * 2


def _tags(texts=_INFLECTIONS, **changes):
    return build_vocabulary(vocabulary_config("tags", **changes), texts, _KEY)


def _tokens(vocabulary, text):
    return [vocabulary.token(i) for i in vocabulary.encode(text)]


def test_bundles_are_split_into_tags_and_all_else_into_characters():
    vocabulary = _tags()
    text = "Vān V;SBJV;PL"
    assert _tokens(vocabulary, text) == ["V", "ā", "n", " ", "[V]", "[SBJV]", "[PL]"]
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.token(NUM_SPECIAL) == " "  # the most frequent one
    assert len({vocabulary.token(i) for i in range(vocabulary.size)}) == vocabulary.size


def test_what_training_text_lacks_is_unknown():
    vocabulary = _tags()
    text = "Xn V;DU"
    assert vocabulary.unknown_tokens(text) == ["X", "DU"]
    assert vocabulary.encode(text).count(SPECIAL.unknown) == 2
    assert vocabulary.decode(vocabulary.encode(text)) == f"{UNKNOWN_CHARACTER}n V{UNKNOWN_CHARACTER}"


@pytest.mark.parametrize(
    ("options", "text", "tokens"),
    [
        ({"tag_pattern": r"(?<= )\S+$"}, "a;b V.PTCP", ["a", ";", "b", " ", "[V.PTCP]"]),
        ({"tag_pattern": r"\[[^]]*\]", "tag_separator": ","}, "a[x,y]", ["a", "[[x]", "[y]]"]),
        ({"tag_pattern": r"\d\d"}, "1234", ["[12]", "3", "4"]),  # adjacent bundles would be decoded as one
        ({"tag_pattern": r"\d*"}, "a12", ["a", "[12]"]),
        ({"tag_separator": "+"}, "a+b c;d", ["[a]", "[b]", " ", "c", ";", "d"]),
        ({}, ";; a;", ["[]", "[]", "[]", " ", "[a]", "[]"]),
    ],
)
def test_patterns_and_separators(options, text, tokens):
    vocabulary = _tags([text], **options)
    assert _tokens(vocabulary, text) == tokens
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_tags_are_saved_and_limited_in_number():
    vocabulary = _tags(size=NUM_SPECIAL + 3)
    assert vocabulary.size == NUM_SPECIAL + 3
    loaded = from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert difference(loaded, vocabulary) == ""
    assert loaded.encode(_INFLECTIONS[0]) == vocabulary.encode(_INFLECTIONS[0])
    assert "there, " in difference(_tags(), vocabulary)
    assert difference(_tags(tag_separator=","), _tags(["x"])) != ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tag_separator": ""}, r"source_vocabulary\.tag_separator='': is empty"),
        ({"tag_pattern": "(a"}, r"source_vocabulary\.tag_pattern='\(a': is no regular expression: missing \)"),
        ({"size": 4}, r"size=4: a tags vocabulary has at least 5 entries"),
    ],
)
def test_wrong_options_of_tags(options, message):
    with pytest.raises(InputError, match=message):
        _tags(**options)


def _ids(texts=("3 17 5", "0"), **changes):
    return build_vocabulary(vocabulary_config("ids", **changes), list(texts), _KEY)


def test_integers_are_ids_after_the_special_ones():
    vocabulary = _ids()
    assert vocabulary.size == NUM_SPECIAL + 18
    assert vocabulary.encode("3 17  5\n0") == [7, 21, 9, 4]
    assert vocabulary.decode([7, 21, 9, SPECIAL.end, 4]) == "3 17 5"
    assert [vocabulary.token(i) for i in (0, 3, 4, 21)] == ["<pad>", "<unknown>", "0", "17"]
    assert from_json(json.loads(json.dumps(vocabulary.to_json()))).encode("17") == [21]


@pytest.mark.parametrize("word", ["18", "-1", "+1", "01", "1.5", "x", "１", "²", "99999999999999"])
def test_other_words_than_known_integers_are_unknown(word):
    vocabulary = _ids(size=NUM_SPECIAL + 18)
    assert vocabulary.encode(f"1 {word}") == [5, SPECIAL.unknown]
    assert vocabulary.unknown_tokens(f"1 {word}") == [word]
    assert vocabulary.decode([5, SPECIAL.unknown]) == f"1 {UNKNOWN_CHARACTER}"


def test_training_text_without_integers_is_an_error():
    with pytest.raises(InputError, match=r"source_vocabulary\.kind='ids': the training text has '1\.5', which is no"):
        _ids(["1 2", "7 1.5"])
    assert _ids(["7 1.5"], size=9).size == 9  # a given size needs no look at the text
    with pytest.raises(InputError, match=r"size=4: a ids vocabulary has at least 5 entries"):
        _ids(size=4)
