"""Reference beam search of each system in plain Python: lists, sorting, one source at a time, float64."""

import numpy as np

from flaxformer_lite.decoding.base import NEG_INF
from tests.decoding.fake_models import SPECIAL, VOCABULARY

END = SPECIAL.end
TOKENS = tuple(i for i in range(VOCABULARY) if i not in (SPECIAL.pad, SPECIAL.begin))  # including the end token


def by_power(log_prob, length, alpha):
    return log_prob / length**alpha


def expand(model, source, beams, tokens=TOKENS):
    """All continuations of the beams as (log-probability, ids), best first."""
    found = []
    for log_prob, ids in beams:
        gains = model.log_probs(source, ids)
        found += [(log_prob + gains[token], (*ids, token)) for token in tokens]
    return sorted(found, reverse=True)


def google(model, source, limit, m, alpha):
    """Wu et al. (2016), always searched to the limit."""
    beams, finished = [(0.0, ())], []
    for length in range(1, limit + 1):
        found = expand(model, source, beams, TOKENS if length < limit else (END,))
        finished += [(p / ((5 + length) / 6) ** alpha, ids) for p, ids in found[:m] if ids[-1] == END]
        beams = [(p, ids) for p, ids in found if ids[-1] != END][:m]
    return sorted(finished, reverse=True)[:m]


def hugging_face(model, source, limit, m, alpha, early_stopping):
    """The loop of ``generate`` of transformers."""
    running, finished = [(0.0, ())], []
    for length in range(1, limit + 1):
        candidates = expand(model, source, running)[: 2 * m]
        stops = [ids[-1] == END or length == limit for _, ids in candidates]
        new = [(by_power(p, length, alpha), ids) for (p, ids), stop in zip(candidates[:m], stops, strict=False) if stop]
        finished = sorted(finished + new, reverse=True)[:m]
        running = [c for c, stop in zip(candidates, stops, strict=True) if not stop][:m]
        if len(finished) == m and running:
            bound_length = limit if early_stopping == "never" and alpha > 0 else length
            if early_stopping is True or by_power(running[0][0], bound_length, alpha) <= finished[-1][0]:
                break
    return finished


def fairseq(model, source, limit, m, alpha):
    """The first m finished hypotheses, sorted."""
    active, finalized = [(0.0, ())], []
    for length in range(1, limit + 1):
        candidates = expand(model, source, active, TOKENS if length < limit else (END,))[: 2 * m]
        for p, ids in candidates[:m]:
            if ids[-1] == END and len(finalized) < m:
                finalized.append((by_power(p, length, alpha), ids))
        if len(finalized) == m:
            break
        active = [(p, ids) for p, ids in candidates if ids[-1] != END][:m]
    return sorted(finalized, reverse=True)


def marian(model, source, limit, m, alpha):
    """A beam that becomes narrower by each finished hypothesis."""
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
            found = expand(model, source, beams[group], TOKENS if length < limit else (END,))
            found.sort(key=lambda one: one[0] - penalty * taken[one[1][-1]], reverse=True)
            ended = [(p / ((5 + length) / 6) ** alpha, ids) for p, ids in found[:size] if ids[-1] == END]
            finished[group] = sorted(finished[group] + ended, reverse=True)[:size]
            beams[group] = [(p, ids) for p, ids in found if ids[-1] != END][:size]
            for _, ids in beams[group]:
                taken[ids[-1]] += 1
    return sorted((one for group in finished for one in group), reverse=True)


def diverse_hugging_face(model, source, limit, m, groups, penalty):
    """The same with each group searching as ``hugging_face`` does, without a length penalty."""
    size = m // groups
    states = [([(0.0, ())], [], False) for _ in range(groups)]
    for length in range(1, limit + 1):
        taken = np.zeros(VOCABULARY)
        for group, (beams, finished, done) in enumerate(states):
            if done:
                continue
            found = expand(model, source, beams)
            found.sort(key=lambda one: one[0] - penalty * taken[one[1][-1]], reverse=True)
            alive = [one for one in found[: 2 * size] if one[1][-1] != END][:size]
            for _, ids in alive:
                taken[ids[-1]] += 1
            at_limit = length == limit
            new = [one for one in found[:size] if one[1][-1] == END or at_limit]
            finished = sorted(finished + new, reverse=True)[:size]
            done = at_limit or (len(finished) == size and alive[0][0] <= finished[-1][0])
            states[group] = alive, finished, done
    return sorted((one for _, finished, _ in states for one in finished), reverse=True)


def assert_finds(found, row, expected):
    """Row ``row`` holds exactly the (score, ids) of ``expected``, in that order."""
    for beam, (score, ids) in enumerate(expected):
        np.testing.assert_array_equal(found.ids[row, beam], ids + (SPECIAL.pad,) * (found.ids.shape[-1] - len(ids)))
        np.testing.assert_allclose(found.scores[row, beam], score, rtol=1e-5, atol=1e-6)
        assert found.lengths[row, beam] == len(ids)
    np.testing.assert_array_equal(found.lengths[row, len(expected) :], 0)
    np.testing.assert_array_equal(found.scores[row, len(expected) :], NEG_INF)
