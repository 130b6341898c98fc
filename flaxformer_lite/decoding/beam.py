"""Beam search, and diverse beam search with several groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.decoding.base import (
    NEG_INF,
    DecodeRequest,
    History,
    LogitsProcessor,
    TokenConstraints,
    lengths_of,
    top_k,
)
from flaxformer_lite.decoding.beam_scoring import BeamStatus, BeamVariant
from flaxformer_lite.decoding_types import Cache, Hypotheses, Step
from flaxformer_lite.types import SpecialIds


class _Group(NamedTuple):
    """State of a group of m beams, which is a beam search of its own. Finished hypotheses are sorted, best first.

    Attributes:
      token: last token of each beam.
      ids: tokens of each beam, padded.
      log_probs: their summed log-probabilities; ``NEG_INF``: there is no such beam.
      finished_ids: tokens of the finished hypotheses that are kept, padded.
      finished_scores: their scores; ``NEG_INF``: there is no such hypothesis.
      done: whether the search has stopped.
    """

    token: Int[Array, "b m"]
    ids: Int[Array, "b m t"]
    log_probs: Float[Array, "b m"]
    finished_ids: Int[Array, "b m t"]
    finished_scores: Float[Array, "b m"]
    done: Bool[Array, " b"]


class _State(NamedTuple):
    """State of the loop.

    Attributes:
      length: number of tokens of every beam.
      groups: the groups of beams.
      cache: the model's cache for the beams of all groups, in their order.
    """

    length: Int[Array, ""]
    groups: tuple[_Group, ...]
    cache: Any


class _Candidates(NamedTuple):
    """The best continuations of a group by one token, best first; enough that m stay alive whichever of them end.

    Attributes:
      parents: the beam that each continues.
      tokens: its new token.
      log_probs: its log-probability with the new token.
    """

    parents: Int[Array, "b c"]
    tokens: Int[Array, "b c"]
    log_probs: Float[Array, "b c"]


@dataclass(frozen=True)
class BeamSearch:
    """Beam search that keeps ``beam_size`` beams alive, and as many finished hypotheses.

    Where there are fewer hypotheses than beams, the last ones have length 0 and score ``NEG_INF``.

    With several groups this is diverse beam search (Vijayakumar et al. 2016, Hamming diversity): each group is a beam
    search that penalizes tokens by the number of beams of earlier groups that chose them in the same step. The penalty
    affects which continuations are chosen, not their log-probabilities, so the hypotheses of all groups are ranked
    together. (transformers 4 keeps the penalties in the scores instead.)

    Attributes:
      beam_size: number of beams and of hypotheses returned, of all groups together.
      variant: score and stopping criterion.
      processors: logits processors; they affect the scores.
      num_groups: number of groups; divides ``beam_size``.
      diversity_penalty: penalty on a token's log-probability per beam of an earlier group that chose it.
      end_ids: tokens besides the end token that end a hypothesis.
    """

    beam_size: int
    variant: BeamVariant
    processors: tuple[LogitsProcessor, ...] = ()
    num_groups: int = 1
    diversity_penalty: float = 0.0
    end_ids: tuple[int, ...] = ()

    def __post_init__(self):
        if self.beam_size < 1 or self.num_groups < 1 or self.beam_size % self.num_groups:
            raise ValueError(
                f"num_groups={self.num_groups} must divide beam_size={self.beam_size}, and both be at least 1"
            )

    def __call__(
        self, step: Step, cache: Cache, encoded: Any, request: DecodeRequest, max_length: int, special: SpecialIds
    ) -> Hypotheses:
        limits = jnp.minimum(request.max_lengths, max_length)
        constraints = TokenConstraints(request, self.processors, special, self.end_ids)

        def advance(state: _State) -> _State:
            token, ids = (_concatenated([group[i] for group in state.groups]) for i in (0, 1))
            logits, cache = step(token, state.cache, encoded)
            only_end = self.variant.forces_end & (state.length + 1 >= limits)
            gains = constraints.next_token_scores(logits, History(ids, state.length), only_end).processed
            groups, parents = self._advance_groups(state, gains, limits, constraints)
            return _State(state.length + 1, groups, cache.select(parents))

        def is_running(state: _State) -> Bool[Array, ""]:
            return jnp.any(~_concatenated([group.done[:, None] for group in state.groups]))

        start = _State(
            length=jnp.zeros((), jnp.int32),
            groups=(self._initial_group(limits, max_length, special),) * self.num_groups,
            cache=cache,
        )
        state = jax.lax.while_loop(is_running, advance, start)
        pooled = _concatenated([group.finished_scores for group in state.groups])
        scores, order = jax.lax.top_k(pooled, self.beam_size)
        ids = _take_rows(_concatenated([group.finished_ids for group in state.groups]), order)
        return Hypotheses(ids, scores, lengths_of(ids, special))

    def _initial_group(self, limits: Int[Array, " b"], max_length: int, special: SpecialIds) -> _Group:
        """One empty beam per source; the other beams branch off from it in the first step."""
        b, m = limits.shape[0], self.beam_size // self.num_groups
        empty = jnp.full((b, m, max_length), special.pad, jnp.int32)
        impossible = jnp.full((b, m), NEG_INF, jnp.float32)
        return _Group(
            token=jnp.full((b, m), special.begin, jnp.int32),
            ids=empty,
            log_probs=impossible.at[:, 0].set(0.0),
            finished_ids=empty,
            finished_scores=impossible,
            done=limits <= 0,
        )

    def _advance_groups(
        self, state: _State, gains: Float[Array, "b m v"], limits: Int[Array, " b"], constraints: TokenConstraints
    ) -> tuple[tuple[_Group, ...], Int[Array, "b m"]]:
        """Advances each group in turn by one token; also returns the parents of the new beams."""
        m = self.beam_size // self.num_groups
        num_chosen = jnp.zeros((gains.shape[0], gains.shape[2]))  # beams of earlier groups that chose each token
        groups, parents = [], []
        for number, group in enumerate(state.groups):
            own_gains = gains[:, number * m : (number + 1) * m]
            penalties = self.diversity_penalty * num_chosen
            candidates = _best_candidates(group.log_probs, own_gains, penalties, (2 + len(self.end_ids)) * m)
            group, own_parents = self._advance_group(group, candidates, state.length, limits, constraints)
            num_chosen = num_chosen.at[jnp.arange(len(num_chosen))[:, None], group.token].add(group.log_probs > NEG_INF)
            groups.append(group)
            parents.append(own_parents + number * m)
        return tuple(groups), _concatenated(parents)

    def _advance_group(
        self,
        group: _Group,
        candidates: _Candidates,
        position: Int[Array, ""],
        limits: Int[Array, " b"],
        constraints: TokenConstraints,
    ) -> tuple[_Group, Int[Array, "b m"]]:
        """Splits candidates into finished hypotheses and live beams; also returns the parents of the live beams."""
        m, most, length = group.token.shape[1], candidates.tokens.shape[1], position + 1
        num_finished = jnp.sum(group.finished_scores > NEG_INF, axis=1)
        considered = jnp.arange(most) < self.variant.num_candidates(m, most, num_finished)[:, None]
        # Rows that are done keep their result, however long other rows run.
        possible = considered & (candidates.log_probs > NEG_INF) & ~group.done[:, None]
        at_limit = length >= limits
        has_end = constraints.is_end(candidates.tokens)

        ids = _take_rows(group.ids, candidates.parents).at[:, :, position].set(candidates.tokens)
        ends = has_end if self.variant.forces_end else has_end | at_limit[:, None]
        finishes = (possible & ends)[:, :m]  # endings below the best m candidates are discarded
        finishes &= jnp.cumsum(finishes, axis=1) <= self.variant.num_finish_slots(m, num_finished)[:, None]
        scores = jnp.where(finishes, self.variant.score(candidates.log_probs[:, :m], length), NEG_INF)
        finished_scores, best = jax.lax.top_k(_concatenated([group.finished_scores, scores]), m)
        finished_ids = _take_rows(_concatenated([group.finished_ids, ids[:, :m]]), best)

        # At the limit these beams end with their group, but later groups still count the tokens that they chose.
        is_alive, alive = jax.lax.top_k((possible & ~has_end).astype(jnp.int32), m)  # ties: the first come first
        log_probs = jnp.where(is_alive > 0, _take(candidates.log_probs, alive), NEG_INF)
        best_alive = log_probs.max(axis=1)
        stops = self.variant.should_stop(BeamStatus(best_alive, finished_scores[:, -1], length, limits))
        advanced = _Group(
            token=_take(candidates.tokens, alive),
            ids=_take_rows(ids, alive),
            log_probs=log_probs,
            finished_ids=finished_ids,
            finished_scores=finished_scores,
            done=group.done | at_limit | stops | (best_alive <= NEG_INF),
        )
        return advanced, _take(candidates.parents, alive)


def _best_candidates(
    log_probs: Float[Array, "b m"], gains: Float[Array, "b m v"], penalties: Float[Array, "b v"], most: int
) -> _Candidates:
    """The best of all m·v continuations, ranked with penalties: first the best of each beam, then of all."""
    b, m, v = gains.shape
    _, tokens = top_k(gains - penalties[:, None], min(most, v))
    # At least NEG_INF, so that impossible continuations keep this one value however many tokens they have.
    totals = jnp.maximum(log_probs[:, :, None] + jnp.take_along_axis(gains, tokens, axis=2), NEG_INF).reshape(b, -1)
    parents = jnp.repeat(jnp.arange(m, dtype=jnp.int32), tokens.shape[2])
    tokens = tokens.reshape(b, -1)
    _, chosen = jax.lax.top_k(totals - _take(penalties, tokens), most)
    return _Candidates(parents[chosen], _take(tokens, chosen), _take(totals, chosen))


def _concatenated(parts: list[Array]) -> Array:
    return jnp.concatenate(parts, axis=1)


def _take(values: Array, indices: Int[Array, "b k"]) -> Array:
    return jnp.take_along_axis(values, indices, axis=1)


def _take_rows(ids: Int[Array, "b c t"], indices: Int[Array, "b k"]) -> Int[Array, "b k t"]:
    return jnp.take_along_axis(ids, indices[:, :, None], axis=1)
