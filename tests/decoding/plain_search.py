"""Beam search of each system in plain Python: lists, sorting, one source at a time, float64. As slow as it is clear."""

import numpy as np

from flaxformer_lite.decoding.base import NEVER
from tests.decoding.fake_models import SPECIAL, VOCABULARY

END = SPECIAL.end
WORDS = tuple(i for i in range(VOCABULARY) if i not in (SPECIAL.pad, SPECIAL.begin))  # the end token among them


def by_power(log_prob, length, alpha):
    return log_prob / length**alpha


def expand(model, source, beams, tokens=WORDS):
    """All (log-probability, ids) that beams can become, best first."""
    found = []
    for log_prob, ids in beams:
        gains = model.log_probs(source, ids)
        found += [(log_prob + gains[token], (*ids, token)) for token in tokens]
    return sorted(found, reverse=True)


def google(model, source, limit, m, alpha):
    """Wu et al.: always to the limit."""
    beams, finished = [(0.0, ())], []
    for length in range(1, limit + 1):
        found = expand(model, source, beams, WORDS if length < limit else (END,))
        finished += [(p / ((5 + length) / 6) ** alpha, ids) for p, ids in found[:m] if ids[-1] == END]
        beams = [(p, ids) for p, ids in found if ids[-1] != END][:m]
    return sorted(finished, reverse=True)[:m]


def hugging_face(model, source, limit, m, alpha, early_stopping):
    """The loop of ``generate``: candidates, then finished and running ones, then whether there is hope."""
    running, finished = [(0.0, ())], []
    for length in range(1, limit + 1):
        candidates = expand(model, source, running)[: 2 * m]
        stops = [ids[-1] == END or length == limit for _, ids in candidates]
        new = [(by_power(p, length, alpha), ids) for (p, ids), stop in zip(candidates[:m], stops, strict=False) if stop]
        finished = sorted(finished + new, reverse=True)[:m]
        running = [c for c, stop in zip(candidates, stops, strict=True) if not stop][:m]
        if len(finished) == m and running:
            hoped_for = limit if early_stopping == "never" and alpha > 0 else length
            if early_stopping is True or by_power(running[0][0], hoped_for, alpha) <= finished[-1][0]:
                break
    return finished


def fairseq(model, source, limit, m, alpha):
    """The first m endings, then sorted."""
    active, finalized = [(0.0, ())], []
    for length in range(1, limit + 1):
        candidates = expand(model, source, active, WORDS if length < limit else (END,))[: 2 * m]
        for p, ids in candidates[:m]:
            if ids[-1] == END and len(finalized) < m:
                finalized.append((by_power(p, length, alpha), ids))
        if len(finalized) == m:
            break
        active = [(p, ids) for p, ids in candidates if ids[-1] != END][:m]
    return sorted(finalized, reverse=True)


def marian(model, source, limit, m, alpha):
    """A beam that loses a place for each hypothesis that ends."""
    beam, history, width = [(0.0, ())], [], m
    for length in range(1, limit + 1):
        beam = expand(model, source, beam)[:width]
        history += [(by_power(p, length, alpha), ids) for p, ids in beam if ids[-1] == END or length == limit]
        beam = [(p, ids) for p, ids in beam if ids[-1] != END]
        width = len(beam) if length > 1 else m - len(history)
        if not beam:
            break
    return sorted(history, reverse=True)


def diverse(model, source, limit, m, alpha, groups, penalty):
    """Vijayakumar et al., algorithm 1 with Hamming diversity, each group searching as ``google`` does."""
    size = m // groups
    beams, finished = [[(0.0, ())] for _ in range(groups)], [[] for _ in range(groups)]
    for length in range(1, limit + 1):
        taken = np.zeros(VOCABULARY)
        for group in range(groups):
            found = expand(model, source, beams[group], WORDS if length < limit else (END,))
            found.sort(key=lambda one: one[0] - penalty * taken[one[1][-1]], reverse=True)
            ended = [(p / ((5 + length) / 6) ** alpha, ids) for p, ids in found[:size] if ids[-1] == END]
            finished[group] = sorted(finished[group] + ended, reverse=True)[:size]
            beams[group] = [(p, ids) for p, ids in found if ids[-1] != END][:size]
            for _, ids in beams[group]:
                taken[ids[-1]] += 1
    return sorted((one for group in finished for one in group), reverse=True)


def assert_finds(found, row, expected):
    """Row ``row`` holds just the (score, ids) of ``expected``, in that order."""
    for beam, (score, ids) in enumerate(expected):
        np.testing.assert_array_equal(found.ids[row, beam], ids + (SPECIAL.pad,) * (found.ids.shape[-1] - len(ids)))
        np.testing.assert_allclose(found.scores[row, beam], score, rtol=1e-5)
        assert found.lengths[row, beam] == len(ids)
    np.testing.assert_array_equal(found.lengths[row, len(expected) :], 0)
    np.testing.assert_array_equal(found.scores[row, len(expected) :], NEVER)
