"""Vocabularies of published models: templates, added tokens, unknown tokens, the saved form."""

import io
import json

import pytest
import sentencepiece

from flaxformer_lite.data.vocabularies.pretrained import (
    AddedToken,
    ByT5Vocabulary,
    MarianVocabulary,
    PretrainedSentencePieceVocabulary,
    TokenizerJsonVocabulary,
    TokenTemplate,
)
from flaxformer_lite.data.vocabularies.saved import difference, from_json
from flaxformer_lite.types import SpecialIds

_SPECIAL = SpecialIds(pad=0, end=1, begin=0, unknown=2)
_TEMPLATE = TokenTemplate(_SPECIAL, prefix_ids=(3,), suffix_ids=(1,), skipped_ids=(3,))
_NAMES = ["<pad>", "</s>", "<unk>", "en_XX"]


@pytest.fixture(scope="module")
def vocabularies():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["abc abd", "bcd eab", "cde dab"] * 5), model_writer=model, vocab_size=12, minloglevel=2
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    table = [*_NAMES, *(piece for piece in pieces if piece != "e"), ">>fra<<"]
    words = {"model": {"type": "WordLevel", "vocab": {"<unk>": 2, "abc": 4, "abd": 5, "too": 6}, "unk_token": "<unk>"}}
    words |= {"pre_tokenizer": {"type": "WhitespaceSplit"}, "added_tokens": [], "normalizer": None}
    words |= {"version": "1.0", "truncation": None, "padding": None, "post_processor": None, "decoder": None}
    added = [AddedToken("en_XX", 3, lstrip=True)]
    return {
        "pieces": PretrainedSentencePieceVocabulary(model.getvalue(), table, len(table), _TEMPLATE, added),
        "coded pieces": MarianVocabulary(model.getvalue(), table, len(table), _TEMPLATE, added),
        "offset bytes": ByT5Vocabulary(4, 260, _TEMPLATE, added),
        "tokenizer": TokenizerJsonVocabulary(json.dumps(words), 6, _TEMPLATE),
    }


_KINDS = ("pieces", "coded pieces", "offset bytes", "tokenizer")


@pytest.mark.parametrize("kind", _KINDS)
def test_the_saved_form_has_the_keys_of_earlier_versions(vocabularies, kind):
    saved = json.loads(json.dumps(vocabularies[kind].to_json()))
    assert saved["kind"] == kind
    assert saved["frame"] == {
        "special": {"pad": 0, "end": 1, "begin": 0, "unknown": 2},
        "opening": [3], "closing": [1], "silent": [3], "tidied": False,
    }  # fmt: skip
    loaded = from_json(saved)
    assert difference(loaded, vocabularies[kind]) == ""
    assert loaded.encode("abc abd") == vocabularies[kind].encode("abc abd")


@pytest.mark.parametrize("kind", _KINDS)
def test_templates_can_be_replaced(vocabularies, kind):
    other = vocabularies[kind].with_template(_TEMPLATE._replace(prefix_ids=(), suffix_ids=(3, 1)))
    assert (other.prefix_ids, other.suffix_ids, other.size) == ((), (3, 1), vocabularies[kind].size)
    assert "there, " in difference(other, vocabularies[kind])


@pytest.mark.parametrize(
    ("kind", "unknown"),
    [("pieces", ["e", "Z"]), ("coded pieces", ["e", "Z"]), ("offset bytes", []), ("tokenizer", ["e", "abZ", "too"])],
)
def test_unknown_tokens(vocabularies, kind, unknown):
    text = "abc e abZ too" if kind == "tokenizer" else "abc e abZ"
    assert vocabularies[kind].encode(text).count(_SPECIAL.unknown) == len(unknown)
    assert vocabularies[kind].unknown_tokens(text) == unknown


def test_added_tokens_and_language_codes_are_matched_first(vocabularies):
    assert vocabularies["offset bytes"].encode("a  en_XXb") == [ord("a") + 4, 3, ord("b") + 4]
    marian = vocabularies["coded pieces"]
    assert marian.encode(">>fra<< abc")[0] == marian.size - 1
    assert marian.unknown_tokens(">>xyz<< abc") == [">>xyz<<"]


def test_special_tokens_are_named(vocabularies):
    assert all(vocabularies[kind].special_tokens == {"en_XX": 3} for kind in ("pieces", "coded pieces", "offset bytes"))
    pieces = vocabularies["pieces"]
    entries = [*pieces.entries, "<extra_id_1>", "<extra_id_0>", "<mask>"]
    model, size = pieces.model, len(pieces.entries) + 2
    # Entries of early models are ordinary pieces; BART has no embedding of <mask>.
    more = PretrainedSentencePieceVocabulary(model, entries, size, _TEMPLATE, [AddedToken("<mask>", size)])
    assert more.special_tokens == {"<extra_id_1>": size - 2, "<extra_id_0>": size - 1}
    words = {"model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<mask>": 1, "x": 2}, "unk_token": "<unk>"}}
    token = {"content": "<extra_id_0>", "special": True, "single_word": False, "lstrip": False, "rstrip": False}
    words |= {"added_tokens": [{"id": 3, "normalized": False, **token}], "version": "1.0"}
    for size, tokens in ((4, {"<mask>": 1, "<extra_id_0>": 3}), (3, {"<mask>": 1})):
        assert TokenizerJsonVocabulary(json.dumps(words), size, _TEMPLATE).special_tokens == tokens
