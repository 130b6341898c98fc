"""What all searches share: what is asked of them, their signature, and which tokens may come next."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from flaxformer_lite.types import AnyArray, Cache, Hypotheses, SpecialIds, Step

# Log-probability of what cannot be. Finite, because infinities make NaN of differences; and so low that no real
# hypothesis comes near it: one of 10,000 tokens would have to lose 100,000 nats at each.
NEVER = -1e9


class Query(NamedTuple):
    """What is asked for each source.

    Attributes:
      limits: the largest number of tokens, the end token included. A row with limit 0, such as one that fills up a
        batch, is left alone: its hypotheses have length 0.
      prefix: the tokens that the target must begin with, pad behind them; p may be 0. They count in length and score.
      seeds: what a row's random draws depend on, beside the number of the sample and of the step.
      free: how many of the first of those tokens cost nothing, as if they had probability 1: what opens every target
        of a vocabulary, such as its language. Their number may be larger than p.
      free_end: whether the last token that the limit leaves room for is the end token, and costs nothing either.
    """

    limits: Int[AnyArray, " b"]
    prefix: Int[AnyArray, "b p"]
    seeds: UInt32[AnyArray, " b"]
    free: Int[AnyArray, " b"]
    free_end: Bool[AnyArray, " b"]


def query(limits: Int[AnyArray, " b"]) -> Query:
    """Asks for targets of at most so many tokens and nothing else."""
    zeros = partial(jnp.zeros, limits.shape[0])
    prefix = jnp.zeros((limits.shape[0], 0), jnp.int32)
    return Query(jnp.asarray(limits), prefix, zeros(jnp.uint32), zeros(jnp.int32), zeros(bool))


@runtime_checkable  # so that the tests' run-time checks can ask
class Search(Protocol):
    """A way to look for the target of each source, as one loop on the device."""

    @property
    def beam_size(self) -> int:
        """How many hypotheses of one source are alive at a time; the cache must have been made for as many."""
        ...

    def __call__(
        self, step: Step, cache: Cache, encoded: Any, query: Query, max_length: int, special: SpecialIds
    ) -> Hypotheses:
        """Searches for every row of the batch; no row's result depends on the other rows.

        Args:
          step: reads one token a hypothesis, gives the logits of the next.
          cache: the state before the first token, for ``beam_size`` hypotheses a source.
          encoded: what the model knows of the sources; handed to ``step`` as it is.
          query: what is asked for each source.
          max_length: the largest possible limit, and the size of the output.
          special: the target vocabulary's special ids; begin may be the same as end or pad.
        """
        ...


class History(NamedTuple):
    """What hypotheses have said so far: ``length`` tokens each, pad behind them."""

    ids: Int[Array, "b m t"]
    length: Int[Array, ""]


@runtime_checkable
class Transform(Protocol):
    """Changes how likely each token is, by what was said before: ``NEVER`` forbids it. See ``transforms``."""

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        """The changed log-probabilities; their exponentials need not add up to 1."""
        ...


class NextToken(NamedTuple):
    """Log-probability of each token to be the next one, ``NEVER`` where it may not be.

    Attributes:
      own: as the model gave it; see ``next_log_probs``.
      ranked: as the transforms make it.
    """

    own: Float[Array, "b m v"]
    ranked: Float[Array, "b m v"]


class Rules(NamedTuple):
    """Which tokens may come next, by what is asked and what a search makes of it.

    A forced token (of the prefix, or the end at the limit) comes whatever the transforms say, and where these leave
    nothing to say, a hypothesis can but end.
    """

    query: Query
    transforms: tuple[Transform, ...]
    special: SpecialIds
    ends: tuple[int, ...] = ()  # further tokens that end a hypothesis; what a hypothesis must end with is the end token

    def is_end(self, tokens: Int[Array, "*any"]) -> Bool[Array, "*any"]:
        """Which tokens end the hypotheses that say them."""
        return jnp.isin(tokens, jnp.array((self.special.end, *self.ends), jnp.int32))

    def next_token(self, logits: Float[Array, "b m v"], history: History, only_end: Bool[Array, " b"]) -> NextToken:
        """What can follow on ``history``; rows with ``only_end`` can but end."""
        ids = jnp.arange(logits.shape[-1])
        free_end = jnp.asarray(self.query.free_end) & (history.length + 1 >= jnp.asarray(self.query.limits))
        forced = only_end = only_end | free_end
        own = next_log_probs(logits, only_end, self.special)
        own = jnp.where(free_end[:, None, None] & (ids == self.special.end), 0.0, own)
        if self.query.prefix.shape[1] > 0:
            prescribed = jnp.where(only_end, -1, self._prescribed(history.length))[:, None, None]
            price = jnp.where((history.length < jnp.asarray(self.query.free))[:, None, None], 0.0, own)
            own = jnp.where(prescribed < 0, own, jnp.where(ids == prescribed, price, NEVER))
            forced = only_end | (prescribed[:, 0, 0] >= 0)
        if not self.transforms:
            return NextToken(own, own)
        ranked = own
        for transform in self.transforms:
            # What is forbidden stays so, whatever the next one multiplies it by.
            ranked = jnp.where(ranked > NEVER, jnp.maximum(transform(ranked, history), NEVER), NEVER)
        stuck = jnp.max(ranked, axis=-1, keepdims=True) <= NEVER
        ranked = jnp.where(stuck, jnp.where(ids == self.special.end, own, NEVER), ranked)
        return NextToken(own, jnp.where(forced[:, None, None], own, ranked))

    def _prescribed(self, length: Int[Array, ""]) -> Int[Array, " b"]:
        """The token of the prefix at this place; -1 behind its end."""
        prefix = jnp.asarray(self.query.prefix)
        end = prefix.shape[1]
        token = jax.lax.dynamic_index_in_dim(prefix, jnp.minimum(length, end - 1), axis=1, keepdims=False)
        return jnp.where((length < end) & (token != self.special.pad), token, -1)


def next_log_probs(
    logits: Float[Array, "b m v"], only_end: Bool[Array, " b"], special: SpecialIds
) -> Float[Array, "b m v"]:
    """Log-probability, in float32, of each token to be the next one, ``NEVER`` where it may not be.

    Pad and begin are never generated, and rows with ``only_end`` can but end. The others keep the probability that the
    model gave them: nothing is renormalized, so sums of these are log P(Y|X).
    """
    ids = jnp.arange(logits.shape[-1])
    is_end = ids == special.end  # some vocabularies begin with their end or pad token
    speakable = is_end | (ids != special.pad) & (ids != special.begin)
    allowed = speakable & (is_end | ~only_end[:, None, None])
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return jnp.where(allowed, jnp.maximum(log_probs, NEVER), NEVER)


def top_k(values: Float[Array, "b m v"], k: int) -> tuple[Float[Array, "b m c"], Int[Array, "b m c"]]:
    """The k largest values of each row and where they are, as ``jax.lax.top_k``, but fast over large vocabularies.

    The k largest lie in those k runs of neighbors whose maxima are largest; so most of the row is only looked at for
    its maxima (medians on one CPU core, 64 rows, k = 8: 8k tokens in 0.16 to 0.19 ms for 0.7 to 0.8, 32k in 0.3 to
    0.5 for 2.7; and k = 1 is argmax with its maximum, 8k tokens of 16 rows in 0.04 ms for argmax's 0.7). Equals: the
    first of them comes first.
    """
    *rows, v = values.shape
    run = 64
    if v < 4 * run * k:
        largest, where = jax.lax.top_k(values, k)
        return largest, where
    runs = jnp.pad(values, [(0, 0), (0, 0), (0, -v % run)], constant_values=-jnp.inf).reshape(*rows, -1, run)
    best_runs = jnp.sort(jax.lax.top_k(runs.max(axis=-1), k)[1])  # in their order, or equals would lose theirs
    candidates = jnp.take_along_axis(runs, best_runs[..., None], axis=-2).reshape(*rows, k * run)
    largest, where = jax.lax.top_k(candidates, k)
    return largest, jnp.take_along_axis(best_runs, where // run, axis=-1) * run + where % run


def lengths_of(ids: Int[Array, "b m t"], special: SpecialIds) -> Int[Array, "b m"]:
    """Number of tokens before the padding (pad itself is never generated)."""
    return jnp.sum(ids != special.pad, axis=-1, dtype=jnp.int32)
