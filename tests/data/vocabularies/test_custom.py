"""Vocabularies of a user's class: building, saving with import path and options, loading."""

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from flaxformer_lite.config.value_types import Options
from flaxformer_lite.data.vocabularies.base import NUM_SPECIAL, SPECIAL, Vocabulary
from flaxformer_lite.data.vocabularies.build import build_vocabulary
from flaxformer_lite.data.vocabularies.saved import difference, from_json, read_saved
from flaxformer_lite.errors import InputError
from tests.data.vocabularies.vocabulary_configs import vocabulary_config

_KEY = "config.data.source_vocabulary"


@dataclass
class Lowercase(Vocabulary):
    """Frequent words in lower case."""

    min_count: int = 1
    words: list = field(init=False, default_factory=list)

    def build(self, texts):
        counts = Counter(word for text in texts for word in text.lower().split())
        self.words = sorted(word for word, count in counts.items() if count >= self.min_count)
        return self

    def from_json(self, values):
        self.words = values["words"]
        return self

    @property
    def size(self):
        return NUM_SPECIAL + len(self.words)

    def encode(self, text):
        ids = {word: i for i, word in enumerate(self.words, NUM_SPECIAL)}
        return [ids.get(word, SPECIAL.unknown) for word in text.lower().split()]

    def decode(self, ids):
        return " ".join(self.token(i) for i in ids if i >= NUM_SPECIAL)

    def token(self, i):
        return self.words[i - NUM_SPECIAL] if i >= NUM_SPECIAL else f"<{i}>"

    def unknown_tokens(self, text):
        return [word for word in text.lower().split() if word not in self.words]

    def to_json(self):
        return {"words": self.words}


@dataclass
class Incomplete:
    def build(self, texts):
        return self


@pytest.fixture
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_vocabularies", SimpleNamespace(Lowercase=Lowercase, Incomplete=Incomplete))
    monkeypatch.setitem(sys.modules, Lowercase.__module__, sys.modules.get(Lowercase.__module__) or SimpleNamespace())


def _build(name="Lowercase", size=0, **options):
    config = vocabulary_config(f"my_vocabularies:{name}", size=size, options=Options(options))
    return build_vocabulary(config, ["A b a", "c A b"], _KEY)


def test_build_save_and_load(importable, tmp_path):
    vocabulary = _build(min_count=2)
    assert (vocabulary.size, vocabulary.special, vocabulary.suffix_ids) == (NUM_SPECIAL + 2, SPECIAL, (SPECIAL.end,))
    path = tmp_path / "source.vocabulary.json"
    path.write_text(json.dumps(vocabulary.to_json()))
    loaded = read_saved(path)
    assert difference(loaded, vocabulary) == ""
    assert difference(_build(), vocabulary) == "7 entries there, 6 here"
    assert loaded.encode("B A q") == vocabulary.encode("B A q") == [5, 4, SPECIAL.unknown]
    assert loaded.decode([5, 4]) == "b a"
    assert loaded.unknown_tokens("b Q") == ["q"]
    assert loaded.options == {"min_count": 2}


def test_errors(importable):
    with pytest.raises(InputError, match=r"source_vocabulary\.options\.min_coun: .*did you mean min_count"):
        _build(min_coun=2)
    with pytest.raises(InputError, match=r"Incomplete lacks methods of .*base\.Vocabulary"):
        _build("Incomplete")
    with pytest.raises(InputError, match=r"source_vocabulary\.kind=.*: it uses its options only, not .*'size': 9"):
        _build(size=9)


def test_a_saved_vocabulary_names_the_module_that_is_missing():
    saved = {"kind": "absent_package.words:Lowercase", "options": {}, "state": {}}
    with pytest.raises(InputError, match=r"kind 'absent_package\.words:Lowercase': there is no module absent_package"):
        from_json(saved)
