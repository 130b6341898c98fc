"""Greedy search and ancestral sampling: independent hypotheses that grow by one token per step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from flaxformer_lite.decoding.base import (
    DecodeRequest,
    History,
    LogitsProcessor,
    TokenConstraints,
    lengths_of,
    top_k,
)
from flaxformer_lite.decoding_types import AnyArray, Cache, Hypotheses, Step
from flaxformer_lite.types import SpecialIds

# (log-probabilities [b, m, v], number of tokens so far) → the next token of each hypothesis [b, m]
ChooseToken = Callable[[Array, Array], Array]


class _State(NamedTuple):
    """State of the loop.

    Attributes:
      length: number of tokens of the unfinished hypotheses.
      token: last token of each hypothesis.
      ids: tokens so far, padded.
      scores: sums of raw log-probabilities.
      done: whether a hypothesis has reached an end token or its limit.
      cache: the model's cache.
    """

    length: Int[Array, ""]
    token: Int[Array, "b m"]
    ids: Int[Array, "b m t"]
    scores: Float[Array, "b m"]
    done: Bool[Array, "b m"]
    cache: Any


def decode_loop(
    step: Step, cache: Cache, encoded: Any, constraints: TokenConstraints, size: tuple[int, int], choose: ChooseToken
) -> Hypotheses:
    """Appends the token that ``choose`` returns until that is an end token or the limit is reached.

    Args:
      step: see ``base.Search``.
      cache: see ``base.Search``.
      encoded: see ``base.Search``.
      constraints: the tokens that may come next.
      size: number of hypotheses per source, and the largest number of tokens.
      choose: chooses a token by the processed log-probabilities.

    Returns:
      Hypotheses in the order of the beams, scored by raw log-probabilities.
    """
    special, (beams, max_length) = constraints.special, size
    limits = jnp.minimum(constraints.request.max_lengths, max_length)
    b = limits.shape[0]

    def advance(state: _State) -> _State:
        logits, cache = step(state.token, state.cache, encoded)
        scores = constraints.next_token_scores(logits, History(state.ids, state.length), jnp.zeros(b, bool))
        chosen = choose(scores.processed, state.length)
        gain = jnp.take_along_axis(scores.raw, chosen[:, :, None], axis=-1)[:, :, 0]
        token = jnp.where(state.done, special.pad, chosen)
        length = state.length + 1
        return _State(
            length=length,
            token=token,
            ids=state.ids.at[:, :, state.length].set(token),
            scores=state.scores + jnp.where(state.done, 0.0, gain),
            done=state.done | constraints.is_end(token) | (length >= limits)[:, None],
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


@dataclass(frozen=True)
class Greedy:
    """Greedy search: the most likely token at each step.

    A hypothesis that reaches its limit has no end token. Its score is its raw log-probability.

    Attributes:
      processors: logits processors.
      end_ids: tokens besides the end token that end a target.
    """

    processors: tuple[LogitsProcessor, ...] = ()
    end_ids: tuple[int, ...] = ()

    @property
    def beam_size(self) -> int:
        return 1

    def __call__(
        self, step: Step, cache: Cache, encoded: Any, request: DecodeRequest, max_length: int, special: SpecialIds
    ) -> Hypotheses:
        constraints = TokenConstraints(request, self.processors, special, self.end_ids)
        choose = lambda log_probs, length: top_k(log_probs, 1)[1][..., 0]  # noqa: E731
        return decode_loop(step, cache, encoded, constraints, (1, max_length), choose)


@dataclass(frozen=True)
class Sample:
    """Ancestral sampling: independent samples, the most likely first, duplicates included.

    Scores are raw log-probabilities, without the logits processors. A sample is a function of its row's seed, its
    number and the step alone, so that the first samples of many equal those of few. A sample that reaches its limit
    has no end token.

    Attributes:
      num_samples: number of samples per source.
      processors: logits processors, such as ``Temperature`` and ``TopP``.
      end_ids: tokens besides the end token that end a target.
    """

    num_samples: int
    processors: tuple[LogitsProcessor, ...] = ()
    end_ids: tuple[int, ...] = ()

    def __post_init__(self):
        if self.num_samples < 1:
            raise ValueError(f"num_samples={self.num_samples} must be at least 1")

    @property
    def beam_size(self) -> int:
        return self.num_samples

    def __call__(
        self, step: Step, cache: Cache, encoded: Any, request: DecodeRequest, max_length: int, special: SpecialIds
    ) -> Hypotheses:
        def draw(log_probs: Float[Array, "b m v"], length: Int[Array, ""]) -> Int[Array, "b m"]:
            noise = _gumbel_noise(request.seeds, (self.num_samples, log_probs.shape[-1]), length)
            return top_k(log_probs + noise, 1)[1][..., 0]

        constraints = TokenConstraints(request, self.processors, special, self.end_ids)
        samples = decode_loop(step, cache, encoded, constraints, (self.num_samples, max_length), draw)
        scores, order = jax.lax.top_k(samples.scores, self.num_samples)
        return Hypotheses(
            ids=jnp.take_along_axis(samples.ids, order[:, :, None], axis=1),
            scores=scores,
            lengths=jnp.take_along_axis(samples.lengths, order, axis=1),
        )


def _gumbel_noise(seeds: UInt32[AnyArray, " b"], size: tuple[int, int], step: Int[Array, ""]) -> Float[Array, "b m v"]:
    """Gumbel noise: the argmax of log-probabilities plus it is a sample of their distribution (Gumbel 1954)."""
    num_samples, vocabulary = size

    def of_sample(key: Array, sample: Int[Array, ""]) -> Float[Array, " v"]:
        key = jax.random.fold_in(jax.random.fold_in(key, sample), step)
        return jax.random.gumbel(key, (vocabulary,))

    keys = jax.vmap(partial(jax.random.key, impl="threefry2x32"))(seeds)
    return jax.vmap(jax.vmap(of_sample, (None, 0)), (0, None))(keys, jnp.arange(num_samples))
