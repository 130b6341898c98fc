"""Vocabularies built by training, exported as tokenizer.json: the same ids, texts and outputs in transformers."""

import dataclasses

import pytest

import flaxformer_lite
from flaxformer_lite.config import defaults, parsing
from flaxformer_lite.data.vocabularies.build import build_vocabulary
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary, WordVocabulary
from flaxformer_lite.interop import exporting
from flaxformer_lite.interop.special_tokens import SpecialTokenIds
from flaxformer_lite.interop.tokenizer_export import write_tokenizer
from flaxformer_lite.models import presets
from tests.interop.tokenizer_files import TEXTS, write
from tests.micro_config import micro
from tests.transformers_reference import transformers
from tests.work_dirs import make_folder

pytestmark = pytest.mark.filterwarnings("ignore")  # raised by other libraries

_AWKWARD = (
    *("a  b", " leading", "trailing ", "日本 語", "🎉🎉", "e\u0301 cafe\u0301", "the</s>cat", "<s>x", "\t", " ", "Ж щ"),
    *("▁x", "a▁b", "\u00a0nbsp\u3000wide", "a\u2028b", "it 's . good , n't ?"),
)
_SPECIAL = SpecialTokenIds(pad=0, eos=1, decoder_start=2, bos=2, forced_bos=(), extra_eos=())


_TEXTS = [text for text in TEXTS if text] * 9
_MATCHED = (
    *("<mask>", "the <mask> cat", "<extra_id_0> the <extra_id_11> <extra_id_1> cat", "dog <extra_id_1>", "<extra_id_x"),
)


def _built(kind, size=0, texts=_TEXTS, **changes):
    settings = parsing.from_dict(defaults.get_config().to_dict()).data.source_vocabulary
    config = dataclasses.replace(settings, kind=kind, size=size, **changes)
    return build_vocabulary(config, texts, "config.data.source_vocabulary")


def _reference(vocabulary, folder):
    """The exported vocabulary in transformers."""
    write(folder, {"config.json": {"model_type": "t5", "vocab_size": vocabulary.size}})
    write_tokenizer((vocabulary, vocabulary), _SPECIAL, folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "size", "changes"),
    [
        ("sentencepiece", 330, {}),
        ("sentencepiece", 330, {"model_type": "bpe"}),
        *(("word", 0, {}), ("character", 0, {}), ("byte", 0, {})),
        ("sentencepiece", 330, {"special_tokens": ("<mask>",), "num_sentinels": 12}),
        ("word", 0, {"special_tokens": ("<mask>",), "num_sentinels": 12}),
        ("byte", 0, {"special_tokens": ("<mask>",), "num_sentinels": 12}),
    ],
)
def test_ids_and_texts_are_the_same(tmp_path, kind, size, changes):
    vocabulary = _built(kind, size, **changes)
    reference = _reference(vocabulary, tmp_path)
    for text in (*TEXTS, *_AWKWARD, *_MATCHED):
        if kind == "sentencepiece" and "▁" in text:
            continue  # there, U+2581 is a space
        ids = [*vocabulary.encode(text), *vocabulary.suffix_ids]
        assert reference(text).input_ids == ids, text
        assert reference.decode(ids, skip_special_tokens=True) == vocabulary.decode(ids), text


def test_integers_are_the_same(tmp_path):
    vocabulary = _built("ids", texts=["3 17 5"], num_sentinels=2)
    reference = _reference(vocabulary, tmp_path)
    for text in ("3  17 5", "0 18 01 x", "5 <extra_id_0> 3"):
        ids = [*vocabulary.encode(text), *vocabulary.suffix_ids]
        assert reference(text).input_ids == ids
        assert reference.decode(ids, skip_special_tokens=True) == vocabulary.decode(ids)


def test_a_vocabulary_that_cannot_be_exported_is_reported(tmp_path, capsys):
    write_tokenizer((CharacterVocabulary("ab"), WordVocabulary(["ab"])), _SPECIAL, tmp_path)
    assert "no tokenizer.json is written: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_outputs_are_the_same(tmp_path):
    vocabulary = _built("byte")
    settings = {
        "data.share_vocabulary": True,
        "decode.beam_variant": "hf",
        "decode.method": "beam",
        "decode.beam_size": 3,
    }
    settings |= {"decode.max_length_ratio": 0.0, "decode.max_length_offset": 9, "decode.length_penalty": 1.0}
    sizes = {"encoder.width": 16, "encoder.num_heads": 2, "encoder.mlp_dim": 24, "decoder.mlp_dim": 20}
    sizes |= {"encoder.num_layers": 1, "decoder.num_layers": 2}
    architecture = presets.marian("base").model | sizes
    settings |= {f"model.{key}": value for key, value in architecture.items()}
    make_folder(tmp_path / "work", micro(settings), vocabularies=(vocabulary, vocabulary))
    trained = exporting.load_trained(tmp_path / "work", "best")
    (tmp_path / "out").mkdir()
    exporting.write_pretrained(trained, exporting.choose_family(trained), tmp_path / "out")
    lines = ["the cat", "é ☃", "7"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    batch = tokenizer(lines, return_tensors="pt", padding=True)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    expected = model.generate(batch.input_ids, attention_mask=batch.attention_mask)
    found = [row[0] for row in flaxformer_lite.load(tmp_path / "work").n_best(lines)]
    assert tokenizer.batch_decode(expected, skip_special_tokens=True) == [row.text for row in found]
    assert [row.ids for row in found] == [tuple(i for i in ids if i) for ids in expected[:, 1:].tolist()]
