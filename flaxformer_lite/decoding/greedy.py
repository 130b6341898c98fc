"""Greedy search: the likeliest token at each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.decoding.search import lengths_of, next_log_probs, top_k
from flaxformer_lite.types import Cache, Hypotheses, SpecialIds, Step


class _State(NamedTuple):
    """The state of the loop.

    Attributes:
      length: number of tokens that rows still going have.
      token: the last token of each row.
      ids: the tokens so far; pad behind them.
      scores: their summed log-probability.
      done: whether the row has reached the end token or its limit.
      cache: the model's own.
    """

    length: Int[Array, ""]
    token: Int[Array, "b 1"]
    ids: Int[Array, "b 1 t"]
    scores: Float[Array, "b 1"]
    done: Bool[Array, " b"]
    cache: Any


@dataclass(frozen=True)
class Greedy:
    """Takes the likeliest token until that is the end token, or the limit is reached (then without an end token).

    The score of the one hypothesis is its log-probability.
    """

    @property
    def beam_size(self) -> int:
        """One hypothesis a source."""
        return 1

    def __call__(
        self, step: Step, cache: Cache, encoded: Any, limits: Int[Array, " b"], max_length: int, special: SpecialIds
    ) -> Hypotheses:
        """Searches for every row of the batch; see ``search.Search``."""
        limits = jnp.minimum(limits, max_length)
        b = limits.shape[0]

        def advance(state: _State) -> _State:
            logits, cache = step(state.token, state.cache, encoded)
            log_probs = next_log_probs(logits, jnp.zeros(b, bool), special)
            gain, likeliest = (best[..., 0] for best in top_k(log_probs, 1))
            done = state.done[:, None]
            token = jnp.where(done, special.pad, likeliest)
            length = state.length + 1
            return _State(
                length=length,
                token=token,
                ids=state.ids.at[:, :, state.length].set(token),
                scores=state.scores + jnp.where(done, 0.0, gain),
                done=state.done | (token[:, 0] == special.end) | (length >= limits),
                cache=cache,
            )

        start = _State(
            length=jnp.zeros((), jnp.int32),
            token=jnp.full((b, 1), special.begin, jnp.int32),
            ids=jnp.full((b, 1, max_length), special.pad, jnp.int32),
            scores=jnp.zeros((b, 1), jnp.float32),
            done=limits <= 0,
            cache=cache,
        )
        state = jax.lax.while_loop(lambda state: jnp.any(~state.done), advance, start)
        return Hypotheses(state.ids, state.scores, lengths_of(state.ids, special))
