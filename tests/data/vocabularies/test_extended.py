"""Vocabularies extended by special tokens: ids, literal matching, decoding, saving, errors."""

import json

import pytest

from flaxformer_lite.data.vocabularies.base import SPECIAL
from flaxformer_lite.data.vocabularies.build import build_vocabulary, known_size
from flaxformer_lite.data.vocabularies.saved import difference, from_json
from flaxformer_lite.errors import InputError
from tests.data.vocabularies.vocabulary_configs import vocabulary_config

_KEY = "config.data.source_vocabulary"
_TEXTS = ["der Bär isst", "V;SBJV;PL ab", "naïve café", "12 7 0"] * 5
_KINDS = ("byte", "character", "word", "sentencepiece", "tags", "ids")
_SPACED = ("word", "sentencepiece", "ids")  # kinds whose tokens imply the spaces around them


def _build(kind, **changes):
    texts = ["12 7 0"] if kind == "ids" else _TEXTS
    return build_vocabulary(vocabulary_config(kind, **changes), texts, _KEY)


@pytest.fixture(scope="module")
def plain():
    return {kind: _build(kind) for kind in _KINDS}


@pytest.fixture(scope="module")
def extended():
    return {kind: _build(kind, special_tokens=("<mask>", "[NLU]"), num_sentinels=12) for kind in _KINDS}


@pytest.mark.parametrize("kind", _KINDS)
def test_ids_follow_all_others_and_the_first_sentinel_is_the_last(kind, plain, extended):
    size = plain[kind].size
    assert extended[kind].size == size + 14
    assert extended[kind].special_tokens == {
        "<mask>": size,
        "[NLU]": size + 1,
        **{f"<extra_id_{i}>": size + 13 - i for i in range(12)},
    }
    assert [extended[kind].token(i) for i in range(size)] == [plain[kind].token(i) for i in range(size)]
    assert extended[kind].token(size + 13) == "<extra_id_0>"
    for name in ("special", "prefix_ids", "suffix_ids", "special_separator"):
        assert getattr(extended[kind], name) == getattr(plain[kind], name)


@pytest.mark.parametrize("kind", _KINDS)
def test_texts_without_special_tokens_keep_their_ids(kind, plain, extended):
    for text in [*_TEXTS, "", " 12 x <mas", "Q"]:
        assert extended[kind].encode(text) == plain[kind].encode(text)
        assert extended[kind].decode(plain[kind].encode(text)) == plain[kind].decode(plain[kind].encode(text))
        assert extended[kind].unknown_tokens(text) == plain[kind].unknown_tokens(text)


@pytest.mark.parametrize("kind", _KINDS)
def test_special_tokens_are_matched_and_written_literally(kind, plain, extended):
    one, two = ("12 7", "0 7") if kind == "ids" else ("der Bär", "isst")
    vocabulary, names = extended[kind], extended[kind].special_tokens
    joint = plain[kind].special_separator
    assert joint == (" " if kind in _SPACED else "")
    text = joint.join(["[NLU]", one, "<extra_id_1>", "<extra_id_11>", two, "<mask>"])
    ids = [names["[NLU]"], *plain[kind].encode(one), names["<extra_id_1>"], names["<extra_id_11>"]]
    ids += [*plain[kind].encode(two), names["<mask>"]]
    assert vocabulary.encode(text) == ids
    assert vocabulary.decode([SPECIAL.begin, *ids, SPECIAL.pad, SPECIAL.end, names["<mask>"]]) == text
    assert vocabulary.encode("<mask>") == [names["<mask>"]]


@pytest.mark.parametrize("kind", _SPACED)
def test_one_space_on_either_side_belongs_to_a_special_token(kind, extended):
    vocabulary = extended[kind]
    assert vocabulary.encode("12<mask>7") == vocabulary.encode("12 <mask> 7")
    assert vocabulary.decode(vocabulary.encode("12<mask>7")) == "12 <mask> 7"


def test_spaces_are_tokens_of_their_own_in_characters_and_bytes(extended):
    for kind in ("byte", "character", "tags"):
        for text in ("der<mask>isst", "der <mask>isst", " <mask>  <mask> "):
            assert extended[kind].decode(extended[kind].encode(text)) == text


@pytest.mark.parametrize("kind", _KINDS)
def test_saved_with_its_special_tokens(kind, plain, extended, tmp_path):
    saved = json.loads(json.dumps(extended[kind].to_json()))
    assert difference(from_json(saved), extended[kind]) == ""
    assert difference(plain[kind], extended[kind]) == f"{saved['base']['kind']} there, extended here"
    other = from_json(saved | {"tokens": [*saved["tokens"][:-1], "<x>"]})
    assert difference(other, extended[kind]) == "special token '<x>' there, '<extra_id_0>' here"
    path = tmp_path / "v.vocabulary.json"
    path.write_text(json.dumps(saved))
    for changes in ({}, {"special_tokens": ("<mask>", "[NLU]"), "num_sentinels": 12}):
        assert _build("saved", model=str(path), **changes).to_json() == saved
    more = _build("saved", model=str(path), special_tokens=("<new>",))
    assert more.special_tokens == {**extended[kind].special_tokens, "<new>": extended[kind].size}
    assert known_size(vocabulary_config("saved", model=str(path), special_tokens=("<new>",)), _KEY) == more.size


def test_size_does_not_count_special_tokens():
    config = vocabulary_config("character", size=7, special_tokens=("<mask>",), num_sentinels=3)
    assert build_vocabulary(config, _TEXTS, _KEY).size == known_size(config, _KEY) == 11
    assert known_size(vocabulary_config("byte", num_sentinels=2), _KEY) == 262
    assert known_size(vocabulary_config("word", num_sentinels=2), _KEY) == 0  # it depends on the text


@pytest.mark.parametrize("kind", ["character", "word", "tags", "sentencepiece"])
def test_special_tokens_in_the_training_text_are_no_text(kind):
    texts = ["a;<mask>b", "c <mask> d<extra_id_0>", "<mask>"] * 3
    plain = build_vocabulary(vocabulary_config(kind), ["a;", "b", "c ", " d"] * 3, _KEY)
    vocabulary = build_vocabulary(vocabulary_config(kind, special_tokens=("<mask>",), num_sentinels=1), texts, _KEY)
    assert vocabulary.to_json()["base"] == plain.to_json()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"special_tokens": ("",)}, r"source_vocabulary\.special_tokens=\('',\): '' is empty or is surrounded by"),
        ({"special_tokens": (" <a>",)}, r"special_tokens=.*: ' <a>' is empty or is surrounded by white space"),
        ({"special_tokens": ("<a>", "<a>")}, r"special_tokens=.*: '<a>' is there twice"),
        (
            {"special_tokens": ("<extra_id_0>",), "num_sentinels": 1},
            r"special_tokens=.*or a sentinel of .*num_sentinels",
        ),
        ({"special_tokens": ("<end>",)}, r"has the token '<end>' already"),
    ],
)
def test_tokens_that_cannot_be_added(changes, message):
    with pytest.raises(InputError, match=message):
        _build("word", **changes)


def test_sentinels_that_a_vocabulary_has_already(tmp_path):
    path = tmp_path / "v.vocabulary.json"
    path.write_text(json.dumps({"kind": "word", "entries": ["a", "<extra_id_1>"]}))
    with pytest.raises(InputError, match=r"num_sentinels=2: .*'saved' has the token '<extra_id_1>' already; leave it"):
        _build("saved", model=str(path), num_sentinels=2)
