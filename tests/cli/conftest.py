"""A fake predictor without a model, whose output is the line in capitals."""

import dataclasses
from typing import NamedTuple

import pytest

import flaxformer_lite
from flaxformer_lite.config import defaults, parsing
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary

LETTERS = CharacterVocabulary("abcd")


class _Prediction(NamedTuple):
    text: str
    score: float
    ids: tuple[int, ...] = ()


@dataclasses.dataclass
class FakePredictor:
    """Records its arguments."""

    config: Config
    step: int = 700
    vocabularies: tuple[CharacterVocabulary, CharacterVocabulary] = (LETTERS, LETTERS)
    asked: list = dataclasses.field(default_factory=list)

    @property
    def seed(self):
        return self.config.seed

    @seed.setter
    def seed(self, seed):
        self.asked.append(("seed", seed))

    def tokenize_prefixes(self, prefixes):
        pass

    def tokens(self, prediction):
        return list(prediction.text)

    def n_best(self, lines, decode, prefixes=()):
        self.asked.append((list(lines), decode, *map(list, [prefixes] if prefixes else [])))
        return [
            [_Prediction(line.upper() + "!" * i, -float(i), (4, 1)) for i in range(decode.n_best)]
            if line
            else [_Prediction("", 0.0)]
            for line in lines
        ]


@pytest.fixture
def config() -> Config:
    return parsing.from_dict(defaults.get_config().to_dict())


@pytest.fixture
def predictor(config, monkeypatch) -> FakePredictor:
    """The fake predictor that ``flaxformer_lite.load`` returns in this test."""
    fake = FakePredictor(config)

    def load(workdir, step="best"):
        fake.asked.append((*workdir, step))
        return fake

    monkeypatch.setattr(flaxformer_lite, "load", load, raising=False)
    return fake
