import itertools

import numpy as np
import pytest

from flaxformer_lite.decoding.exact import exact_search
from flaxformer_lite.types import SpecialIds

SPECIAL = SpecialIds(pad=0, end=1, begin=2, unknown=3)
TOKENS = (3, 4, 5)
LIMIT = 5


class Table:
    """A model whose next token depends on the whole history, and which counts its calls."""

    def __init__(self, seed: int, sharpness: float, end_penalty: float = 0.0):
        self._seed, self._sharpness = seed, sharpness
        self._end_penalty = end_penalty  # on the end token before three other tokens
        self.calls: list[int] = []

    def __call__(self, partial_targets):
        self.calls.append(len(partial_targets))
        return np.stack([self.log_probs(ids) for ids in partial_targets])

    def log_probs(self, ids):
        logits = self._sharpness * np.random.default_rng((self._seed, *ids)).standard_normal(6)
        logits[[SPECIAL.pad, SPECIAL.begin]] = -np.inf
        logits[SPECIAL.end] -= self._end_penalty * (len(ids) < 3)
        return logits - np.log(np.exp(logits).sum())

    def log_prob(self, ids):
        return sum(self.log_probs(ids[:i])[token] for i, token in enumerate(ids))


def every_target():
    for length in range(LIMIT):
        for words in itertools.product(TOKENS, repeat=length):
            yield (*words, SPECIAL.end)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sharpness", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("end_penalty", [0.0, 5.0])
@pytest.mark.parametrize("rows", [1, 3])
def test_finds_the_most_likely_of_all_targets(seed, sharpness, end_penalty, rows):
    model = Table(seed, sharpness, end_penalty)
    best = max(every_target(), key=model.log_prob)
    known = (3, SPECIAL.end)
    found = exact_search(model, (known, model.log_prob(known)), LIMIT, SPECIAL, rows, budget=10_000)
    assert found.ids == best
    assert found.log_prob == pytest.approx(model.log_prob(best))
    assert found.proven
    assert found.expanded == sum(model.calls)
    assert max(model.calls) <= rows


def test_a_better_known_target_prunes_more():
    expanded = []
    for seed in range(8):
        model = Table(seed, 1.0, end_penalty=5.0)
        targets = sorted(every_target(), key=model.log_prob)
        searches = (
            exact_search(model, (t, model.log_prob(t)), LIMIT, SPECIAL, 1, 10_000) for t in (targets[0], targets[-1])
        )
        expanded.append([found.expanded for found in searches])
    worst, best = zip(*expanded, strict=True)
    assert all(b <= w for b, w in zip(best, worst, strict=True))
    assert sum(best) < sum(worst) < 8 * len(targets)


def test_a_result_is_not_proven_when_the_budget_is_used_up():
    model = Table(1, 0.2, end_penalty=5.0)
    known = (SPECIAL.end,)
    found = exact_search(model, (known, model.log_prob(known)), LIMIT, SPECIAL, 2, budget=4)
    assert not found.proven
    assert found.expanded <= 5
