"""Vocabularies of tokenizer.json files: ids of the file, special tokens, errors."""

import json

import pytest

from flaxformer_lite.data.vocabularies.build import build_vocabulary
from flaxformer_lite.data.vocabularies.saved import difference, from_json
from flaxformer_lite.errors import InputError
from flaxformer_lite.types import SpecialIds
from tests.data.vocabularies.vocabulary_configs import vocabulary_config

tokenizers = pytest.importorskip("tokenizers")


def _write(folder, special, unknown="<unk>", settings=None):
    """A byte-level BPE with these special tokens before its other tokens."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=unknown))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the cat sat on the mat"] * 5, trainer)
    path = folder / "tokenizer.json"
    path.write_text(tokenizer.to_str())
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return path, tokenizer


def _read(path, **changes):
    config = vocabulary_config("tokenizer", model=str(path), **changes)
    return build_vocabulary(config, [], "config.data.source_vocabulary")


def test_ids_are_those_of_the_file(tmp_path):
    path, tokenizer = _write(tmp_path, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    vocabulary = _read(path)
    assert vocabulary.size == tokenizer.get_vocab_size()
    assert vocabulary.special == SpecialIds(pad=1, end=2, begin=0, unknown=3)
    assert (vocabulary.prefix_ids, vocabulary.suffix_ids) == ((), (2,))
    assert vocabulary.special_tokens["<mask>"] == 4
    for text in ("the cat  sat", "naïve 🎉 日本\n", " ▁ x", ""):
        assert vocabulary.encode(text) == tokenizer.encode(text).ids
        assert vocabulary.decode([*vocabulary.encode(text), 2, 7]) == text
    loaded = from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert difference(loaded, vocabulary) == ""


def test_special_tokens_follow_those_of_the_file(tmp_path):
    path, tokenizer = _write(tmp_path, ["<pad>", "</s>"], unknown=None)
    vocabulary = _read(path, special_tokens=("<mask>",), num_sentinels=2)
    size = tokenizer.get_vocab_size()
    assert vocabulary.special == SpecialIds(pad=0, end=1, begin=0, unknown=0)
    assert vocabulary.encode("the <extra_id_0> sat") == [
        *(*tokenizer.encode("the").ids, size + 2, *tokenizer.encode("sat").ids),
    ]
    assert vocabulary.decode(vocabulary.encode("the <mask> sat")) == "the <mask> sat"


def test_tokenizer_config_names_the_special_tokens(tmp_path):
    settings = {"pad_token": {"content": "[P]", "lstrip": False}, "eos_token": "[E]", "bos_token": None}
    path, _ = _write(tmp_path, ["<pad>", "[E]", "[P]"], unknown=None, settings=settings)
    assert _read(path).special == SpecialIds(pad=2, end=1, begin=2, unknown=2)


def test_padding_and_end_get_new_ids_where_there_are_none(tmp_path):
    path, tokenizer = _write(tmp_path, [], unknown=None)
    size, vocabulary = tokenizer.get_vocab_size(), _read(path)
    assert vocabulary.size == size + 2
    assert vocabulary.special == SpecialIds(pad=size, end=size + 1, begin=size, unknown=size)
    assert vocabulary.decode([*vocabulary.encode("a cat"), size + 1, size]) == "a cat"


def test_files_that_cannot_be_used(tmp_path):
    path, _ = _write(tmp_path, ["<pad>", "</s>"], unknown=None)
    with pytest.raises(
        InputError, match=r"tokenizer\.json'.*it has \d+ entries, .*more than .*source_vocabulary.size=9"
    ):
        _read(path, size=9)
    (tmp_path / "bad.json").write_text("{}")
    for name in ("bad.json", "none.json"):
        with pytest.raises(InputError, match=rf"source_vocabulary\.model='.*{name}': .*read"):
            _read(tmp_path / name)
    with pytest.raises(InputError, match=r"source_vocabulary\.model='': it cannot be read"):
        _read("")
