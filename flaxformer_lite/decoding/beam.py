"""Beam search: the best few hypotheses at each step, alone or in groups that keep apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.decoding.base import NEVER, History, Query, Rules, Transform, lengths_of, top_k
from flaxformer_lite.decoding.beam_variants import Convention, Progress
from flaxformer_lite.types import Cache, Hypotheses, SpecialIds, Step


class _Group(NamedTuple):
    """A group of m beams, which is a beam search of its own. Finished hypotheses are sorted, best first.

    Attributes:
      token: the last token of each beam.
      ids: the tokens of each beam so far; pad behind them.
      log_probs: their summed log-probability; ``NEVER``: there is no such beam.
      finished_ids: the finished hypotheses that are kept; pad behind them.
      finished_scores: by what they are ranked; ``NEVER``: there is no such hypothesis.
      done: whether the search is over.
    """

    token: Int[Array, "b m"]
    ids: Int[Array, "b m t"]
    log_probs: Float[Array, "b m"]
    finished_ids: Int[Array, "b m t"]
    finished_scores: Float[Array, "b m"]
    done: Bool[Array, " b"]


class _State(NamedTuple):
    """The state of the loop.

    Attributes:
      length: number of tokens of every beam.
      groups: the beams, group by group.
      cache: the model's own, of all beams in that order.
    """

    length: Int[Array, ""]
    groups: tuple[_Group, ...]
    cache: Any


class _Continuations(NamedTuple):
    """The best ways of a group to go on by one token, so many that m live on whatever ends; best first.

    Attributes:
      parents: the beam that each continues.
      tokens: its new token.
      log_probs: its log-probability, the new token included.
    """

    parents: Int[Array, "b c"]
    tokens: Int[Array, "b c"]
    log_probs: Float[Array, "b c"]


@dataclass(frozen=True)
class BeamSearch:
    """Keeps ``beam_size`` beams alive, and as many finished hypotheses.

    What finishes, by what it is ranked and when the search is over, is as the convention says. Where there are fewer
    hypotheses than beams, the last ones have length 0 and score ``NEVER``.

    With several groups this is diverse beam search (Vijayakumar et al. 2016, Hamming diversity): each group is a beam
    search of its own, and prefers tokens that few beams of the groups before it took in the same step. That changes
    what is chosen, not the log-probability that is kept of it; so all groups' hypotheses can be ranked together.

    Attributes:
      beam_size: number of beams and of hypotheses returned, of all groups together.
      convention: whose beam search.
      transforms: change how likely each token is, and so the scores.
      groups: number of groups; divides ``beam_size``.
      diversity_penalty: taken off a token's log-probability for each beam of an earlier group that took it.
      ends: tokens besides the end token that end a hypothesis.
    """

    beam_size: int
    convention: Convention
    transforms: tuple[Transform, ...] = ()
    groups: int = 1
    diversity_penalty: float = 0.0
    ends: tuple[int, ...] = ()

    def __post_init__(self):
        if self.beam_size < 1 or self.groups < 1 or self.beam_size % self.groups:
            raise ValueError(f"groups={self.groups} must divide beam_size={self.beam_size}, both at least 1")

    def __call__(
        self, step: Step, cache: Cache, encoded: Any, query: Query, max_length: int, special: SpecialIds
    ) -> Hypotheses:
        """Searches for every row of the batch; see ``search.Search``."""
        limits = jnp.minimum(query.limits, max_length)
        rules = Rules(query, self.transforms, special, self.ends)

        def advance(state: _State) -> _State:
            token, ids = (_joined([group[i] for group in state.groups]) for i in (0, 1))
            logits, cache = step(token, state.cache, encoded)
            only_end = self.convention.forces_end & (state.length + 1 >= limits)
            gains = rules.next_token(logits, History(ids, state.length), only_end).ranked
            groups, parents = self._advance(state, gains, limits, rules)
            return _State(state.length + 1, groups, cache.select(parents))

        def going(state: _State) -> Bool[Array, ""]:
            return jnp.any(~_joined([group.done[:, None] for group in state.groups]))

        start = _State(
            length=jnp.zeros((), jnp.int32),
            groups=(self._start(limits, max_length, special),) * self.groups,
            cache=cache,
        )
        state = jax.lax.while_loop(going, advance, start)
        pooled = _joined([group.finished_scores for group in state.groups])
        scores, order = jax.lax.top_k(pooled, self.beam_size)
        ids = _rows(_joined([group.finished_ids for group in state.groups]), order)
        return Hypotheses(ids, scores, lengths_of(ids, special))

    def _start(self, limits: Int[Array, " b"], max_length: int, special: SpecialIds) -> _Group:
        """One empty beam a source; the others come into being by branching off from it."""
        b, m = limits.shape[0], self.beam_size // self.groups
        nothing = jnp.full((b, m, max_length), special.pad, jnp.int32)
        never = jnp.full((b, m), NEVER, jnp.float32)
        return _Group(
            token=jnp.full((b, m), special.begin, jnp.int32),
            ids=nothing,
            log_probs=never.at[:, 0].set(0.0),
            finished_ids=nothing,
            finished_scores=never,
            done=limits <= 0,
        )

    def _advance(
        self, state: _State, gains: Float[Array, "b m v"], limits: Int[Array, " b"], rules: Rules
    ) -> tuple[tuple[_Group, ...], Int[Array, "b m"]]:
        """Each group in turn goes on by one token; returns them and the beams that they go on from."""
        m = self.beam_size // self.groups
        taken = jnp.zeros((gains.shape[0], gains.shape[2]))  # by how many beams of earlier groups
        groups, parents = [], []
        for number, group in enumerate(state.groups):
            own = gains[:, number * m : (number + 1) * m]
            best = _best(group.log_probs, own, self.diversity_penalty * taken, (2 + len(self.ends)) * m)
            group, chosen = self._sort(group, best, state.length, limits, rules)
            taken = taken.at[jnp.arange(len(taken))[:, None], group.token].add(group.log_probs > NEVER)
            groups.append(group)
            parents.append(chosen + number * m)
        return tuple(groups), _joined(parents)

    def _sort(
        self,
        group: _Group,
        best: _Continuations,
        position: Int[Array, ""],
        limits: Int[Array, " b"],
        rules: Rules,
    ) -> tuple[_Group, Int[Array, "b m"]]:
        """Sorts continuations into those that finish and those that live on; also returns whose children these are."""
        m, enough, length = group.token.shape[1], best.tokens.shape[1], position + 1
        so_far = jnp.sum(group.finished_scores > NEVER, axis=1)
        looked_at = jnp.arange(enough) < self.convention.looked_at(m, enough, so_far)[:, None]
        # Rows that are done take nothing more, whatever the others still do.
        possible = looked_at & (best.log_probs > NEVER) & ~group.done[:, None]
        complete = length >= limits
        ends = rules.is_end(best.tokens)
        if not self.convention.forces_end:
            ends |= complete[:, None]

        ids = _rows(group.ids, best.parents).at[:, :, position].set(best.tokens)
        finishes = (possible & ends)[:, :m]  # the cut at m keeps poor endings out
        finishes &= jnp.cumsum(finishes, axis=1) <= self.convention.room(m, so_far)[:, None]
        scores = jnp.where(finishes, self.convention.score(best.log_probs[:, :m], length), NEVER)
        finished_scores, winners = jax.lax.top_k(_joined([group.finished_scores, scores]), m)
        finished_ids = _rows(_joined([group.finished_ids, ids[:, :m]]), winners)

        lives, alive = jax.lax.top_k((possible & ~ends).astype(jnp.int32), m)  # of equal ones the first come first
        log_probs = jnp.where(lives > 0, _picked(best.log_probs, alive), NEVER)
        attained = log_probs.max(axis=1)
        over = self.convention.is_over(Progress(attained, finished_scores[:, -1], length, limits))
        after = _Group(
            token=_picked(best.tokens, alive),
            ids=_rows(ids, alive),
            log_probs=log_probs,
            finished_ids=finished_ids,
            finished_scores=finished_scores,
            done=group.done | complete | over | (attained <= NEVER),
        )
        return after, _picked(best.parents, alive)


def _best(
    log_probs: Float[Array, "b m"], gains: Float[Array, "b m v"], discounts: Float[Array, "b v"], enough: int
) -> _Continuations:
    """Finds the best ``enough`` of all m·v continuations: first the best of each beam, then among those.

    What is best is judged less the tokens' discounts.
    """
    b, m, v = gains.shape
    _, tokens = top_k(gains - discounts[:, None], min(enough, v))
    # No lower than NEVER, so that this one value means impossible however often it is added.
    totals = jnp.maximum(log_probs[:, :, None] + jnp.take_along_axis(gains, tokens, axis=2), NEVER).reshape(b, -1)
    parents = jnp.repeat(jnp.arange(m, dtype=jnp.int32), tokens.shape[2])
    tokens = tokens.reshape(b, -1)
    _, chosen = jax.lax.top_k(totals - _picked(discounts, tokens), enough)
    return _Continuations(parents[chosen], _picked(tokens, chosen), _picked(totals, chosen))


def _joined(parts: list[Array]) -> Array:
    return jnp.concatenate(parts, axis=1)


def _picked(values: Array, which: Int[Array, "b k"]) -> Array:
    return jnp.take_along_axis(values, which, axis=1)


def _rows(ids: Int[Array, "b c t"], which: Int[Array, "b k"]) -> Int[Array, "b k t"]:
    return jnp.take_along_axis(ids, which[:, :, None], axis=1)
