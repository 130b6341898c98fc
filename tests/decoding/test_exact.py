import itertools

import numpy as np
import pytest

from flaxformer_lite.decoding.exact import exact_search
from flaxformer_lite.types import SpecialIds

SPECIAL = SpecialIds(pad=0, end=1, begin=2, unknown=3)
WORDS = (3, 4, 5)
LIMIT = 5


class Table:
    """A model whose next token depends on all that was said, and which counts what it is asked."""

    def __init__(self, seed: int, sharpness: float, reluctance: float = 0.0):
        self._seed, self._sharpness = seed, sharpness
        self._reluctance = reluctance  # to end before three words
        self.asked: list[int] = []

    def __call__(self, beginnings):
        self.asked.append(len(beginnings))
        return np.stack([self.log_probs(ids) for ids in beginnings])

    def log_probs(self, ids):
        logits = self._sharpness * np.random.default_rng((self._seed, *ids)).standard_normal(6)
        logits[[SPECIAL.pad, SPECIAL.begin]] = -np.inf
        logits[SPECIAL.end] -= self._reluctance * (len(ids) < 3)
        return logits - np.log(np.exp(logits).sum())

    def of(self, ids):
        return sum(self.log_probs(ids[:i])[token] for i, token in enumerate(ids))


def every_target():
    for length in range(LIMIT):
        for words in itertools.product(WORDS, repeat=length):
            yield (*words, SPECIAL.end)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sharpness", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("reluctance", [0.0, 5.0])
@pytest.mark.parametrize("rows", [1, 3])
def test_is_the_best_of_all_targets(seed, sharpness, reluctance, rows):
    model = Table(seed, sharpness, reluctance)
    best = max(every_target(), key=model.of)
    known = (3, SPECIAL.end)
    found = exact_search(model, (known, model.of(known)), LIMIT, SPECIAL, rows, budget=10_000)
    assert found.ids == best
    assert found.log_prob == pytest.approx(model.of(best))
    assert found.proven
    assert found.read == sum(model.asked)
    assert max(model.asked) <= rows


def test_a_better_known_target_saves_work():
    reads = []
    for seed in range(8):
        model = Table(seed, 1.0, reluctance=5.0)
        targets = sorted(every_target(), key=model.of)
        searches = (exact_search(model, (t, model.of(t)), LIMIT, SPECIAL, 1, 10_000) for t in (targets[0], targets[-1]))
        reads.append([found.read for found in searches])
    worst, best = zip(*reads, strict=True)
    assert all(b <= w for b, w in zip(best, worst, strict=True))
    assert sum(best) < sum(worst) < 8 * len(targets)


def test_a_spent_budget_proves_nothing():
    model = Table(1, 0.2, reluctance=5.0)
    known = (SPECIAL.end,)
    found = exact_search(model, (known, model.of(known)), LIMIT, SPECIAL, 2, budget=4)
    assert not found.proven
    assert found.read <= 5
