"""Text survives the way to ids and back, and the special ids are the same everywhere."""

import json

import pytest

from flaxformer_lite.config.dataclasses import VocabularyConfig
from flaxformer_lite.data.vocabularies import vocabulary
from flaxformer_lite.data.vocabularies.vocabulary import SPECIAL, UNKNOWN_SIGN
from flaxformer_lite.errors import InputError

_TEXTS = [
    "der Bär isst",
    "naïve café",
    "日本語 と かな",
    "🎉 e\u0301 ﬁ",
    "a  b",
    "",
    " x ",
    "don't — stop…",
    "tab\tab",
] * 3
_KINDS = ("byte", "character", "word", "sentencepiece")


def _build(kind, size=0, texts=_TEXTS, model=""):
    return vocabulary.build(VocabularyConfig(kind, size, model), texts)


@pytest.fixture(scope="module")
def vocabularies():
    return {kind: _build(kind) for kind in _KINDS}


@pytest.mark.parametrize("kind", _KINDS)
def test_text_comes_back(vocabularies, kind):
    for text in _TEXTS:
        ids = vocabularies[kind].encode(text)
        assert all(len(SPECIAL) <= i < vocabularies[kind].size for i in ids), text
        assert vocabularies[kind].decode(ids) == (" ".join(text.split()) if kind == "word" else text)


@pytest.mark.parametrize("kind", ["byte", "sentencepiece"])
def test_nothing_is_unknown_to_bytes_and_pieces(vocabularies, kind):
    text = "Žluťoučký 🐎 ☃ \u2028 \x00"
    ids = vocabularies[kind].encode(text)
    assert SPECIAL.unknown not in ids
    assert vocabularies[kind].decode(ids) == text


@pytest.mark.parametrize(("kind", "text", "shown"), [("character", "bQa", "b?a"), ("word", "der Q isst", "der ? isst")])
def test_what_training_lacks_is_unknown(vocabularies, kind, text, shown):
    ids = vocabularies[kind].encode(text)
    assert ids.count(SPECIAL.unknown) == 1
    assert vocabularies[kind].decode(ids) == shown.replace("?", UNKNOWN_SIGN)


@pytest.mark.parametrize("kind", _KINDS)
def test_decoding_ends_at_the_end_and_skips_pad_and_begin(vocabularies, kind):
    ids = vocabularies[kind].encode("a b")
    padded = [SPECIAL.begin, *ids, SPECIAL.pad, SPECIAL.end, *ids, SPECIAL.end]
    assert vocabularies[kind].decode(padded) == "a b"


@pytest.mark.parametrize("kind", _KINDS)
def test_each_id_has_a_token_of_its_own(vocabularies, kind):
    tokens = [vocabularies[kind].token(i) for i in range(vocabularies[kind].size)]
    assert tokens[: len(SPECIAL)] == ["<pad>", "<end>", "<begin>", "<unknown>"]
    assert len(set(tokens)) == len(tokens)


def test_tokens_are_written_as_the_vocabulary_has_them(vocabularies):
    def tokens(kind, text):
        return [vocabularies[kind].token(i) for i in vocabularies[kind].encode(text)]

    assert tokens("byte", "a é~\n") == ["a", " ", "<0xC3>", "<0xA9>", "~", "<0x0A>"]
    assert tokens("character", "a é") == ["a", " ", "é"]
    assert tokens("word", "der Bär") == ["der", "Bär"]
    assert "".join(tokens("sentencepiece", "der Bär")) == "▁der▁Bär"
    assert tokens("sentencepiece", "☃")[-3:] == ["<0xE2>", "<0x98>", "<0x83>"]


@pytest.mark.parametrize("kind", _KINDS)
def test_json_keeps_everything(vocabularies, kind):
    saved = json.loads(json.dumps(vocabularies[kind].to_json()))
    loaded = vocabulary.from_json(saved)
    assert (loaded.size, loaded.special) == (vocabularies[kind].size, SPECIAL)
    for text in [*_TEXTS, "Q neu"]:
        assert loaded.encode(text) == vocabularies[kind].encode(text)


@pytest.mark.parametrize("kind", _KINDS)
def test_the_same_text_makes_the_same_vocabulary(vocabularies, kind):
    assert _build(kind).to_json() == vocabularies[kind].to_json()


def test_frequent_entries_come_first_and_ties_by_code_point():
    assert _build("character", texts=["ccba", "cb", "é"]).entries == ("c", "b", "a", "é")
    assert _build("word", texts=["z y z", "x"]).entries == ("z", "x", "y")


def test_size_counts_special_ids():
    cut = _build("character", size=6, texts=["ccba", "cb"])
    assert (cut.size, cut.entries) == (6, ("c", "b"))
    assert cut.encode("abc") == [SPECIAL.unknown, 5, 4]
    assert _build("sentencepiece", size=330, texts=[f"{i:o} {i:x}" for i in range(3_000)]).size == 330


def test_a_small_text_has_fewer_pieces_than_asked_for():
    assert _build("sentencepiece", size=5_000, texts=["aba ab", "ca"]).size < 300


def test_a_model_file_is_used_as_it_is(tmp_path):
    import sentencepiece

    # Begin, end and padding of its own, the unknown piece not first: all of it is ours to move.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["abc abd", "bcd eab", "cde dab"] * 5), model_prefix=str(tmp_path / "m"), vocab_size=12,
        pad_id=0, eos_id=1, unk_id=2, bos_id=3, minloglevel=2,
    )  # fmt: skip
    loaded = _build("sentencepiece", model=str(tmp_path / "m.model"))
    assert loaded.size == 12  # four of its pieces became our four special ids
    assert loaded.decode(loaded.encode("abd bcd")) == "abd bcd"
    assert SPECIAL.unknown in loaded.encode("aZ")
    with pytest.raises(InputError, match=r"has 12 entries.*size=11"):
        _build("sentencepiece", size=11, model=str(tmp_path / "m.model"))


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("character", 4, "at least 5 entries.*size=4"),
        ("byte", 100, "at least 260 entries.*size=100"),
        ("sentencepiece", 20, "size=20 could be trained: Vocabulary size is smaller"),
    ],
)
def test_a_size_too_small_is_an_error(kind, size, message):
    with pytest.raises(InputError, match=message):
        _build(kind, size=size)


def test_a_missing_and_a_damaged_model_file(tmp_path):
    (tmp_path / "bad.model").write_bytes(b"not a model")
    for name in ("bad.model", "none.model"):
        with pytest.raises(InputError, match=rf"{name}.*cannot be read as a SentencePiece model"):
            _build("sentencepiece", model=str(tmp_path / name))


@pytest.mark.parametrize("saved", [{}, {"kind": "runes"}, {"kind": "word"}, {"kind": "sentencepiece", "model": "%"}])
def test_a_damaged_vocabulary_is_an_error(saved):
    with pytest.raises(InputError, match="saved vocabulary"):
        vocabulary.from_json(saved)


def test_training_pieces_is_quiet(capfd):
    _build("sentencepiece")
    assert capfd.readouterr() == ("", "")


def test_a_saved_vocabulary_is_read_as_it_is(tmp_path, vocabularies):
    path = tmp_path / "source.vocabulary.json"
    path.write_text(json.dumps(vocabularies["word"].to_json()))
    read = vocabulary.build(VocabularyConfig("saved", 0, str(path)), ["other text"])
    assert read.to_json() == vocabularies["word"].to_json()
    with pytest.raises(InputError, match=r"nowhere\.json' cannot be read as a saved vocabulary"):
        vocabulary.build(VocabularyConfig("saved", 0, str(tmp_path / "nowhere.json")), [])
