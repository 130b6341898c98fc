"""Every kind of vocabulary returns the text that it encoded, on random Unicode."""

import numpy as np
import pytest

from flaxformer_lite.data.vocabularies.base import SPECIAL
from flaxformer_lite.data.vocabularies.build import build_vocabulary
from tests.data.vocabularies.vocabulary_configs import vocabulary_config

_PARTS = (
    *("a", "b", "der", " ", "  ", "\t", "\n", "\r\n", "\0", "\x7f", "\u00a0", "\u2028", "\u3000", "\ufeff", "▁", "▁▁"),
    *(
        "é",
        "e\u0301",
        "日",
        "🎉",
        "👩\u200d👩",
        "\ufffd",
        "⁇",
        ";",
        "V;PL",
        ";;",
        "<unk>",
        "<s>",
        "<0xE2>",
        "<pad>",
        "<end>",
    ),
    *("<mask>", "<extra_id_0>", "<extra_id_", "[V]"),
)
_TRAINING_TEXT = ["der Bär isst", "naïve café", "a V;PL", "日本語 と かな", "a  b\t"] * 3


def _random_texts(count):
    random = np.random.default_rng(7)
    for _ in range(count):
        yield "".join(random.choice(_PARTS, random.integers(8)))
        codes = random.integers([0, 0x800, 0xE000], [0x800, 0xD800, 0x110000], (random.integers(4), 3))  # no surrogates
        yield "".join(map(chr, codes[random.integers(2) :].ravel()))


_TEXTS = list(_random_texts(500))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("byte", {}),
        ("character", {}),
        ("tags", {}),
        ("tags", {"tag_pattern": r"[VL<]\S*"}),
        ("sentencepiece", {"model_type": "unigram"}),
        ("sentencepiece", {"model_type": "bpe"}),
    ],
)
@pytest.mark.parametrize("special_tokens", [(), ("<mask>",)])
def test_decoding_inverts_encoding(kind, changes, special_tokens):
    # Tables have entries for all that occurs; bytes and byte fallback need none.
    known = _TEXTS if kind in ("character", "tags") else _TRAINING_TEXT
    config = vocabulary_config(kind, special_tokens=special_tokens, num_sentinels=len(special_tokens), **changes)
    vocabulary = build_vocabulary(config, known, "config.data.source_vocabulary")
    is_spaced = kind == "sentencepiece"
    for text in _TEXTS:
        if special_tokens and is_spaced and ("<mask>" in text or "<extra_id_0>" in text):
            continue  # one space on either side belongs to the special token: see test_extended
        ids = vocabulary.encode(text)
        assert all(len(SPECIAL) <= i < vocabulary.size for i in ids), text
        assert vocabulary.decode(ids) == text
        assert vocabulary.unknown_tokens(text) == []


def test_words_and_integers_keep_everything_but_white_space():
    words = build_vocabulary(vocabulary_config("word"), _TEXTS, "config.data.source_vocabulary")
    integers = build_vocabulary(vocabulary_config("ids", size=5_000), [], "config.data.source_vocabulary")
    random = np.random.default_rng(3)
    for text in _TEXTS:
        assert words.decode(words.encode(text)) == " ".join(text.split())
        numbers = " ".join(map(str, random.integers(4_996, size=random.integers(9))))
        assert integers.decode(integers.encode(numbers)) == numbers


def test_a_model_without_pieces_of_bytes_makes_u2581_a_space(tmp_path):
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["abc abd", "bcd eab"] * 5), model_prefix=str(tmp_path / "m"), vocab_size=12,
        minloglevel=2,
    )  # fmt: skip
    config = vocabulary_config("sentencepiece", model=str(tmp_path / "m.model"))
    vocabulary = build_vocabulary(config, [], "config.data.source_vocabulary")
    assert vocabulary.decode(vocabulary.encode("a▁b")) == "a b"
