"""Beam search: the best few hypotheses at each step, ranked in the end by length-normalised log-probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.decoding.search import NEVER, lengths_of, next_log_probs, top_k
from flaxformer_lite.types import Cache, Hypotheses, SpecialIds, Step


def length_penalty(lengths: Int[Array, "*any"], alpha: float) -> Float[Array, "*any"]:
    """((5 + |Y|) / 6)**alpha, by which log P(Y|X) is divided: Wu et al. (2016), equation 14.

    Lengths count the end token. Alpha 0 ranks by probability alone; a higher one favours longer targets.
    """
    return ((5.0 + lengths.astype(jnp.float32)) / 6.0) ** alpha


class _State(NamedTuple):
    """The state of the loop. Beams and finished hypotheses are sorted, best first.

    Attributes:
      length: number of tokens of every beam.
      token: the last token of each beam.
      ids: the tokens of each beam so far; pad behind them.
      log_probs: their summed log-probability; ``NEVER``: there is no such beam.
      finished_ids: the best ended hypotheses; the end token and pad stand behind them.
      finished_scores: their normalised log-probability; ``NEVER``: there is no such hypothesis.
      done: whether no beam of the row can improve on what is finished.
      cache: the model's own, of the beams.
    """

    length: Int[Array, ""]
    token: Int[Array, "b m"]
    ids: Int[Array, "b m t"]
    log_probs: Float[Array, "b m"]
    finished_ids: Int[Array, "b m t"]
    finished_scores: Float[Array, "b m"]
    done: Bool[Array, " b"]
    cache: Any


class _Continuations(NamedTuple):
    """The best 2m ways to go on by one token, best first: enough that m are left if one of each beam ends.

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

    A hypothesis is finished when its end token is among the best ``beam_size`` continuations of its step (so with one
    beam and alpha 0 this is greedy search). Its score is log P(Y|X) divided by ``length_penalty``. One token before its
    limit a beam can but end; so every hypothesis ends, and they are drawn from all targets of at most ``limit`` tokens.
    A row is done when no beam could reach the worst finished score, even if it lost nothing more up to its limit. Where
    there are fewer possible targets than beams, the last hypotheses have length 0 and score ``NEVER``.

    Attributes:
      beam_size: number of beams and of hypotheses returned.
      length_penalty: alpha of the formula, at least 0.
    """

    beam_size: int
    length_penalty: float

    def __post_init__(self):
        if self.beam_size < 1 or self.length_penalty < 0:
            raise ValueError(f"beam_size={self.beam_size} must be at least 1, {self.length_penalty=} at least 0")

    def __call__(
        self, step: Step, cache: Cache, encoded: Any, limits: Int[Array, " b"], max_length: int, special: SpecialIds
    ) -> Hypotheses:
        """Searches for every row of the batch; see ``search.Search``."""
        limits = jnp.minimum(limits, max_length)

        def advance(state: _State) -> _State:
            logits, cache = step(state.token, state.cache, encoded)
            log_probs = next_log_probs(logits, state.length + 1 >= limits, special)
            return self._advance(state, _best(state.log_probs, log_probs), cache, limits, special)

        start = self._start(cache, limits, max_length, special)
        state = jax.lax.while_loop(lambda state: jnp.any(~state.done), advance, start)
        return Hypotheses(state.finished_ids, state.finished_scores, lengths_of(state.finished_ids, special))

    def _start(self, cache: Cache, limits: Int[Array, " b"], max_length: int, special: SpecialIds) -> _State:
        """One empty beam a row; the others come into being by branching off from it."""
        b, m = limits.shape[0], self.beam_size
        nothing = jnp.full((b, m, max_length), special.pad, jnp.int32)
        never = jnp.full((b, m), NEVER, jnp.float32)
        return _State(
            length=jnp.zeros((), jnp.int32),
            token=jnp.full((b, m), special.begin, jnp.int32),
            ids=nothing,
            log_probs=never.at[:, 0].set(0.0),
            finished_ids=nothing,
            finished_scores=never,
            done=limits <= 0,
            cache=cache,
        )

    def _advance(
        self, state: _State, best: _Continuations, cache: Cache, limits: Int[Array, " b"], special: SpecialIds
    ) -> _State:
        """Sorts the continuations into those that end and those that live on."""
        m, length = self.beam_size, state.length + 1
        ends = best.tokens == special.end
        ids = _rows(state.ids, best.parents).at[:, :, state.length].set(best.tokens)

        # The cut at m keeps poor endings out; rows that are done take nothing more, whatever the others still do.
        may_finish = (ends & (best.log_probs > NEVER) & ~state.done[:, None])[:, :m]
        ended = best.log_probs[:, :m] / length_penalty(length, self.length_penalty)
        pool = jnp.concatenate([state.finished_scores, jnp.where(may_finish, ended, NEVER)], axis=1)
        finished_scores, winners = jax.lax.top_k(pool, m)
        finished_ids = _rows(jnp.concatenate([state.finished_ids, ids[:, :m]], axis=1), winners)

        log_probs, alive = jax.lax.top_k(jnp.where(ends, NEVER, best.log_probs), m)
        attainable = log_probs[:, 0] / length_penalty(limits, self.length_penalty)
        return _State(
            length=length,
            token=jnp.take_along_axis(best.tokens, alive, axis=1),
            ids=_rows(ids, alive),
            log_probs=log_probs,
            finished_ids=finished_ids,
            finished_scores=finished_scores,
            done=state.done | (length >= limits) | (finished_scores[:, -1] >= attainable),
            cache=cache.select(jnp.take_along_axis(best.parents, alive, axis=1)),
        )


def _best(log_probs: Float[Array, "b m"], gains: Float[Array, "b m v"]) -> _Continuations:
    """Finds the best 2m of all m·v continuations: first the best of each beam, then among those."""
    b, m, v = gains.shape
    gains, tokens = top_k(gains, min(2 * m, v))
    # No lower than NEVER, so that this one value means impossible however often it is added.
    totals = jnp.maximum(log_probs[:, :, None] + gains, NEVER).reshape(b, -1)
    totals, chosen = jax.lax.top_k(totals, 2 * m)
    return _Continuations(
        parents=(chosen // tokens.shape[-1]).astype(jnp.int32),
        tokens=jnp.take_along_axis(tokens.reshape(b, -1), chosen, axis=1),
        log_probs=totals,
    )


def _rows(ids: Int[Array, "b c t"], which: Int[Array, "b k"]) -> Int[Array, "b k t"]:
    return jnp.take_along_axis(ids, which[:, :, None], axis=1)
