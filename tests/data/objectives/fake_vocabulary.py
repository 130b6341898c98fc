from collections.abc import Mapping

from flaxformer_lite.data.vocabularies.base import Vocabulary

MASK, PERIOD = 4, 5
FIRST = 10  # of ordinary tokens
NUM_SENTINELS = 20


class FakeVocabulary(Vocabulary):
    """Ids without text: a mask token, one that ends sentences, ordinary tokens, and sentinels at the end."""

    def __init__(self, size: int = 200):
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    @property
    def special_tokens(self) -> Mapping[str, int]:
        sentinels = {f"<extra_id_{i}>": self._size - 1 - i for i in range(NUM_SENTINELS)}
        return sentinels | {"<mask>": MASK, "[NLU]": 6, "[NLG]": 7, "[S2S]": 8}

    def encode(self, text):
        raise NotImplementedError

    def decode(self, ids):
        raise NotImplementedError

    def to_json(self):
        raise NotImplementedError

    def token(self, i):
        return "." if i == PERIOD else f"t{i}"
