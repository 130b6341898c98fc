import dataclasses
import itertools
import json

import pytest

import flaxformer_lite
from flaxformer_lite.cli import decode_flags
from flaxformer_lite.cli.main import main
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary
from flaxformer_lite.inference.scoring import Scorer
from flaxformer_lite.inference.search_errors import compare_searches, summarize
from tests.micro_config import micro, use_devices
from tests.work_dirs import make_folder

LETTERS = CharacterVocabulary("abc")
SOURCES = ["a", "bca", "cc", "ab"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    config = micro({"data.reverse.alphabet": "abc", "decode.max_length_ratio": 0.0, "decode.max_length_offset": 4})
    make_folder(tmp_path / "run", config, vocabularies=(LETTERS, LETTERS))
    return tmp_path / "run"


def test_exact_search_finds_the_most_likely_of_all_targets(folder):
    predictor = flaxformer_lite.load(folder)
    decode = dataclasses.replace(predictor.config.decode, beam_size=1)
    found = list(compare_searches(predictor, SOURCES, decode, budget=10_000))
    unknown = LETTERS.special.unknown  # may be generated although no text has it
    tokens = [unknown, *LETTERS.encode("abc")]
    every = [[*ids, LETTERS.special.end] for n in range(4) for ids in itertools.product(tokens, repeat=n)]
    for comparison in found:
        scored = Scorer(predictor, predictor.config.decode).score_ids([comparison.source] * len(every), every)
        best = max(range(len(every)), key=lambda i: scored[i].log_prob)
        assert comparison.exact.log_prob == pytest.approx(scored[best].log_prob, abs=1e-3)
        assert comparison.exact.proven
        assert comparison.is_error == (scored[best].log_prob > comparison.found.score + 1e-4)
    assert summarize(found)["proven"] == 100


def test_the_command(folder, capfd, monkeypatch):
    model = flaxformer_lite.load(folder)
    monkeypatch.setattr(decode_flags, "load_model", lambda arguments: model)  # the second call compiles nothing
    assert main(["search-errors", f"--workdir={folder}", "--max_examples=5", "--beam_size=1", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["examples"] == 5
    assert found["search_errors"] == pytest.approx(100 * len(found["misses"]) / 5)
    assert all(miss["exact_log_prob"] > miss["found_log_prob"] for miss in found["misses"])
    assert main(["search-errors", f"--workdir={folder}", "--max_examples=5", "--beam_size=1"]) == 0
    assert "search errors" in capfd.readouterr().out
