"""Training of SentencePiece models: samples, kinds, messages, degenerate models."""

import itertools
import logging
import random

import pytest
import sentencepiece

from flaxformer_lite.data.vocabularies import sentencepiece_training
from flaxformer_lite.data.vocabularies.build import build_vocabulary
from flaxformer_lite.data.vocabularies.sentencepiece import SentencePieceVocabulary
from flaxformer_lite.data.vocabularies.sentencepiece_training import sample_evenly
from flaxformer_lite.data.vocabularies.statistics import describe_degeneration, measure
from flaxformer_lite.system import heartbeat
from tests.data.vocabularies.vocabulary_configs import vocabulary_config

_KEY = "config.data.source_vocabulary"
_TEXTS = [f"number {i:o} and {i:x}" for i in range(3_000)]


def _build(texts=_TEXTS, **changes):
    return build_vocabulary(vocabulary_config("sentencepiece", **changes), texts, _KEY)


def _words(count, of=2_000):
    """Lines of words that are equally frequent and have random letters."""
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(3, 9))) for _ in range(of)]
    return [" ".join(generator.choices(words, k=12)) for _ in range(count)]


@pytest.mark.parametrize(
    ("max_lines", "max_characters", "kept"),
    [(10, 99, "abcdefg"), (7, 99, "abcdefg"), (3, 99, "ace"), (1, 99, "a"), (9, 3, "ace"), (9, 1, "a"), (5, 2, "ad")],
)
def test_a_sample_is_evenly_spaced_and_bounded(max_lines, max_characters, kept):
    assert "".join(sample_evenly(list("abcdefg"), max_lines, max_characters)) == kept


def test_a_sample_of_a_stream_needs_little_memory_and_is_evenly_spaced():
    lines = [int(line) for line in sample_evenly((str(i) for i in range(100_000)), 1_000, 10**9)]
    assert len(lines) == 1_000
    assert lines[0] == 0
    assert lines[-1] > 98_000
    gaps = [after - before for before, after in itertools.pairwise(lines)]
    assert set(gaps) <= {64, 128}
    assert sample_evenly(iter("abc"), 5, 99) == ["a", "b", "c"]
    assert len(sample_evenly(("x" * 50 for _ in range(1_000)), 900, 2_000)) <= 40
    assert list(sample_evenly([], 5, 99)) == []


def test_a_stated_number_of_lines_is_trained_on(caplog):
    caplog.set_level(logging.INFO, "flaxformer_lite")
    assert _build(sample_size=1_000, size=400).to_json() == _build(_TEXTS[::3], size=400).to_json()
    assert "training SentencePiece on 1,000 of 3,000 lines, evenly spread" in caplog.text
    caplog.clear()
    assert _build(sample_size=3_000, size=400).to_json() == _build(size=400).to_json()
    assert caplog.text == ""


def test_long_lines_are_sampled_by_characters(monkeypatch):
    monkeypatch.setattr(sentencepiece_training, "_MAX_CHARACTERS", 10_000)
    sampled = _build(sample_size=3_000, size=320)
    assert sampled.to_json() != _build(size=320).to_json()
    assert _build(sample_size=0, size=320).to_json() == _build(size=320).to_json()  # 0: all, whatever memory it needs


def test_byte_pair_encoding_differs_from_unigram_and_loses_nothing():
    merged, unigram = (_build(size=400, model_type=kind) for kind in ("bpe", "unigram"))
    assert merged.size == unigram.size == 400
    assert (merged.is_bpe, unigram.is_bpe) == (True, False)
    text = "number 17 🎉 é"
    for vocabulary in (merged, unigram):
        assert vocabulary.decode(vocabulary.encode(text)) == text


def test_special_ids_and_pieces_keep_their_positions_whatever_is_added():
    plain = _build(size=400)
    more = _build(size=400, special_tokens=("<mask>", "[S2S]"), num_sentinels=100)
    assert more.size == 502
    assert [more.token(i) for i in range(400)] == [plain.token(i) for i in range(400)]
    assert [more.token(i) for i in (0, 1, 2, 3, 400, 401, 402, 501)] == [
        *("<pad>", "<end>", "<begin>", "<unknown>", "<mask>", "[S2S]", "<extra_id_99>", "<extra_id_0>"),
    ]


def test_progress_is_logged_while_training_takes_long(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "flaxformer_lite")
    monkeypatch.setattr(heartbeat, "_FIRST_SECONDS", 0.01)
    _build(_words(500), size=600)
    assert f"building the sentencepiece vocabulary of {_KEY}: 0 s so far" in caplog.text


def test_a_degenerate_model_is_reported(caplog):
    texts = _words(20_000)
    degenerate = _build(texts, size=1_000)
    assert "kind='sentencepiece': the trained vocabulary is of little use: the piece '▁" in caplog.text
    assert "has probability 0.80" in caplog.text
    assert "model_type='bpe'" in caplog.text
    statistics = measure(degenerate, texts)
    assert statistics.tokens / statistics.words > 4
    caplog.clear()
    _build(texts, size=1_000, model_type="bpe")
    _build(_TEXTS, size=400)
    assert caplog.text == ""


def test_a_model_that_saves_nothing_over_bytes_is_degenerate():
    texts = ["abc", "cab"] * 9
    vocabulary = SentencePieceVocabulary.train(texts, 280)
    assert describe_degeneration(vocabulary, measure(vocabulary, ["xyz q", "z"])) == (
        "it has 1.33 tokens per character, no fewer than a byte vocabulary"
    )


def test_statistics_count_a_sample():
    vocabulary = build_vocabulary(vocabulary_config("character"), ["aab é"], _KEY)
    found = measure(vocabulary, ["aab é", "aQ"], num_top=2)
    assert found == (2, 3, 7, 8, 7, 1, ((4, 3 / 7), (6, 1 / 7)))


def test_a_model_file_is_used_with_special_tokens(tmp_path):
    model = _build(size=400).model
    (tmp_path / "m.model").write_bytes(model)
    loaded = _build([], model=str(tmp_path / "m.model"), num_sentinels=2)
    assert loaded.size == 402
    assert loaded.to_json()["base"] == _build(size=400).to_json()
    assert sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size() == 397
