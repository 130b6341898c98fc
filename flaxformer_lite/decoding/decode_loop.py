"""What searches share whose hypotheses grow each for itself, a token at a time, and never change places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.decoding.base import History, Rules, lengths_of
from flaxformer_lite.types import Cache, Hypotheses, Step

# (log-probabilities [b, m, v], number of tokens so far) → the next token of each hypothesis [b, m]
Choose = Callable[[Array, Array], Array]


class _State(NamedTuple):
    """The state of the loop.

    Attributes:
      length: number of tokens that hypotheses still going have.
      token: the last token of each.
      ids: the tokens so far; pad behind them.
      scores: their summed log-probability, as the model gave it.
      done: whether the end token or the limit is reached.
      cache: the model's own.
    """

    length: Int[Array, ""]
    token: Int[Array, "b m"]
    ids: Int[Array, "b m t"]
    scores: Float[Array, "b m"]
    done: Bool[Array, "b m"]
    cache: Any


def walk(step: Step, cache: Cache, encoded: Any, rules: Rules, size: tuple[int, int], choose: Choose) -> Hypotheses:
    """Takes the token that ``choose`` names until that is the end token, or the limit is reached (then without one).

    Args:
      step: see ``search.Search``.
      cache: see there.
      encoded: see there.
      rules: which tokens may come next.
      size: number of hypotheses a source, and of tokens at most.
      choose: names a token by the transformed log-probabilities.

    Returns:
      the hypotheses in the order of their numbers. Their scores are the model's own log-probabilities.
    """
    special, (beams, max_length) = rules.special, size
    limits = jnp.minimum(rules.query.limits, max_length)
    b = limits.shape[0]

    def advance(state: _State) -> _State:
        logits, cache = step(state.token, state.cache, encoded)
        found = rules.next_token(logits, History(state.ids, state.length), jnp.zeros(b, bool))
        chosen = choose(found.ranked, state.length)
        gain = jnp.take_along_axis(found.own, chosen[:, :, None], axis=-1)[:, :, 0]
        token = jnp.where(state.done, special.pad, chosen)
        length = state.length + 1
        return _State(
            length=length,
            token=token,
            ids=state.ids.at[:, :, state.length].set(token),
            scores=state.scores + jnp.where(state.done, 0.0, gain),
            done=state.done | rules.is_end(token) | (length >= limits)[:, None],
            cache=cache,
        )

    start = _State(
        length=jnp.zeros((), jnp.int32),
        token=jnp.full((b, beams), special.begin, jnp.int32),
        ids=jnp.full((b, beams, max_length), special.pad, jnp.int32),
        scores=jnp.zeros((b, beams), jnp.float32),
        done=jnp.broadcast_to((limits <= 0)[:, None], (b, beams)),
        cache=cache,
    )
    state = jax.lax.while_loop(lambda state: jnp.any(~state.done), advance, start)
    return Hypotheses(state.ids, state.scores, lengths_of(state.ids, special))
