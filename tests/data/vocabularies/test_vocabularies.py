"""Vocabularies built from training text: round trips, special ids, unknown tokens, saving."""

import json

import pytest

from flaxformer_lite.data.vocabularies.base import SPECIAL, UNKNOWN_CHARACTER
from flaxformer_lite.data.vocabularies.build import build_vocabulary
from flaxformer_lite.data.vocabularies.saved import from_json
from flaxformer_lite.errors import InputError
from tests.data.vocabularies.vocabulary_configs import vocabulary_config

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
    config = vocabulary_config(kind, size=size, model=model)
    return build_vocabulary(config, texts, "config.data.source_vocabulary")


@pytest.fixture(scope="module")
def vocabularies():
    return {kind: _build(kind) for kind in _KINDS}


@pytest.mark.parametrize("kind", _KINDS)
def test_decoding_inverts_encoding(vocabularies, kind):
    for text in _TEXTS:
        ids = vocabularies[kind].encode(text)
        assert all(len(SPECIAL) <= i < vocabularies[kind].size for i in ids), text
        assert vocabularies[kind].decode(ids) == (" ".join(text.split()) if kind == "word" else text)


@pytest.mark.parametrize("kind", ["byte", "sentencepiece"])
def test_bytes_and_byte_fallback_have_no_unknown_tokens(vocabularies, kind):
    text = "Žluťoučký 🐎 ☃ \u2028 \x00"
    ids = vocabularies[kind].encode(text)
    assert SPECIAL.unknown not in ids
    assert vocabularies[kind].unknown_tokens(text) == []
    assert vocabularies[kind].decode(ids) == text


@pytest.mark.parametrize(
    ("kind", "text", "shown", "unknown"),
    [("character", "bQaQ", "b?a?", ["Q", "Q"]), ("word", "der Q isst", "der ? isst", ["Q"])],
)
def test_entries_missing_from_training_text_are_unknown(vocabularies, kind, text, shown, unknown):
    ids = vocabularies[kind].encode(text)
    assert ids.count(SPECIAL.unknown) == len(unknown)
    assert vocabularies[kind].unknown_tokens(text) == unknown
    assert vocabularies[kind].decode(ids) == shown.replace("?", UNKNOWN_CHARACTER)


@pytest.mark.parametrize("kind", _KINDS)
def test_decoding_stops_at_the_end_token_and_skips_pad_and_begin(vocabularies, kind):
    ids = vocabularies[kind].encode("a b")
    padded = [SPECIAL.begin, *ids, SPECIAL.pad, SPECIAL.end, *ids, SPECIAL.end]
    assert vocabularies[kind].decode(padded) == "a b"


@pytest.mark.parametrize("kind", _KINDS)
def test_tokens_are_unique(vocabularies, kind):
    tokens = [vocabularies[kind].token(i) for i in range(vocabularies[kind].size)]
    assert tokens[: len(SPECIAL)] == ["<pad>", "<end>", "<begin>", "<unknown>"]
    assert len(set(tokens)) == len(tokens)


def test_text_of_single_tokens(vocabularies):
    def tokens(kind, text):
        return [vocabularies[kind].token(i) for i in vocabularies[kind].encode(text)]

    assert tokens("byte", "a é~\n") == ["a", " ", "<0xC3>", "<0xA9>", "~", "<0x0A>"]
    assert tokens("character", "a é") == ["a", " ", "é"]
    assert tokens("word", "der Bär") == ["der", "Bär"]
    assert "".join(tokens("sentencepiece", "der Bär")) == "▁der▁Bär"
    assert tokens("sentencepiece", "☃")[-3:] == ["<0xE2>", "<0x98>", "<0x83>"]


@pytest.mark.parametrize("kind", _KINDS)
def test_json_round_trip(vocabularies, kind):
    saved = json.loads(json.dumps(vocabularies[kind].to_json()))
    loaded = from_json(saved)
    assert (loaded.size, loaded.special) == (vocabularies[kind].size, SPECIAL)
    for text in [*_TEXTS, "Q neu"]:
        assert loaded.encode(text) == vocabularies[kind].encode(text)


@pytest.mark.parametrize("kind", _KINDS)
def test_building_is_deterministic(vocabularies, kind):
    assert _build(kind).to_json() == vocabularies[kind].to_json()


def test_entries_are_ordered_by_frequency_then_code_point():
    assert _build("character", texts=["ccba", "cb", "é"]).entries == ("c", "b", "a", "é")
    assert _build("word", texts=["z y z", "x"]).entries == ("z", "x", "y")


def test_size_includes_special_ids():
    cut = _build("character", size=6, texts=["ccba", "cb"])
    assert (cut.size, cut.entries) == (6, ("c", "b"))
    assert cut.encode("abc") == [SPECIAL.unknown, 5, 4]
    assert _build("sentencepiece", size=330, texts=[f"{i:o} {i:x}" for i in range(3_000)]).size == 330


def test_a_sentencepiece_vocabulary_smaller_than_asked_is_reported(caplog):
    size = _build("sentencepiece", size=5_000, texts=["aba ab", "ca"]).size
    assert size < 300
    assert (
        f"source_vocabulary.size=5000: the training text gives a SentencePiece vocabulary of only {size} "
        in caplog.text
    )


def test_sentencepiece_model_file(tmp_path):
    import sentencepiece

    # A model with control pieces of its own and an unknown piece that is not the first.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["abc abd", "bcd eab", "cde dab"] * 5), model_prefix=str(tmp_path / "m"), vocab_size=12,
        pad_id=0, eos_id=1, unk_id=2, bos_id=3, minloglevel=2,
    )  # fmt: skip
    loaded = _build("sentencepiece", model=str(tmp_path / "m.model"))
    assert loaded.size == 12  # its four special pieces are replaced by our four special ids
    assert loaded.decode(loaded.encode("abd bcd")) == "abd bcd"
    assert SPECIAL.unknown in loaded.encode("aZ")
    assert loaded.unknown_tokens("aZ bQ") == ["Z", "Q"]
    with pytest.raises(InputError, match=r"has 12 entries.*size=11"):
        _build("sentencepiece", size=11, model=str(tmp_path / "m.model"))


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("character", 4, r"source_vocabulary\.size=4: .*at least 5 entries"),
        ("byte", 100, r"source_vocabulary\.size=100: .*at least 260 entries"),
        ("sentencepiece", 20, "size=20: no SentencePiece .*could be trained: Vocabulary size is smaller"),
    ],
)
def test_a_size_too_small_is_an_error(kind, size, message):
    with pytest.raises(InputError, match=message):
        _build(kind, size=size)


def test_missing_and_damaged_model_files(tmp_path):
    (tmp_path / "bad.model").write_bytes(b"not a model")
    for name in ("bad.model", "none.model"):
        with pytest.raises(InputError, match=rf"{name}.*cannot be read as a SentencePiece model"):
            _build("sentencepiece", model=str(tmp_path / name))


@pytest.mark.parametrize("saved", [{}, {"kind": "runes"}, {"kind": "word"}, {"kind": "sentencepiece", "model": "%"}])
def test_damaged_saved_vocabularies(saved):
    with pytest.raises(InputError, match="saved vocabulary"):
        from_json(saved)


def test_sentencepiece_training_prints_nothing(capfd):
    _build("sentencepiece")
    assert capfd.readouterr() == ("", "")


def test_a_saved_vocabulary_ignores_the_training_text(tmp_path, vocabularies):
    path = tmp_path / "source.vocabulary.json"
    path.write_text(json.dumps(vocabularies["word"].to_json()))
    read = _build("saved", texts=["other text"], model=str(path))
    assert read.to_json() == vocabularies["word"].to_json()
    with pytest.raises(InputError, match=r"nowhere\.json: it cannot be read as a saved vocabulary"):
        _build("saved", model=str(tmp_path / "nowhere.json"))
