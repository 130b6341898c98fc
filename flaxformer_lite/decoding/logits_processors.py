"""Logits processors: functions of the log-probabilities of the next token and the history, applied in order.

Each is a frozen dataclass of plain values, so that searches can be compared and hashed. The usual order is that of this
file: processors that forbid tokens come before those that truncate the distribution that is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.decoding.base import NEG_INF, History, top_k


@dataclass(frozen=True)
class RepetitionPenalty:
    """Multiplies the log-probability of every token of the history by ``factor`` (Keskar et al. 2019).

    The paper divides positive logits and multiplies negative ones; log-probabilities are all negative. Beam search of
    transformers does the same; its sampling applies the penalty to logits instead.
    """

    factor: float

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        is_token = jnp.broadcast_to(jnp.arange(history.ids.shape[-1]) < history.length, history.ids.shape)
        repeated = _tokens_at(history.ids, is_token, log_probs.shape[-1])
        return jnp.where(repeated, log_probs * self.factor, log_probs)


@dataclass(frozen=True)
class NoRepeatNgram:
    """Forbids tokens that would repeat an n-gram of the history (Paulus et al. 2018)."""

    n: int

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        ids, length = history
        context = self.n - 1
        if ids.shape[-1] < context:  # the output is too short for one n-gram
            return log_probs
        last = jax.lax.dynamic_slice_in_dim(ids, length - context, context, axis=-1)
        positions = jnp.arange(ids.shape[-1])
        repeats = jnp.broadcast_to((positions >= context) & (positions < length), ids.shape)
        for back in range(1, self.n):  # whether the n - 1 tokens before each position are the last n - 1
            repeats &= jnp.roll(ids, back, axis=-1) == last[..., context - back, None]
        return jnp.where(_tokens_at(ids, repeats, log_probs.shape[-1]), NEG_INF, log_probs)


@dataclass(frozen=True)
class MinLength:
    """Forbids the tokens that end an output before it has ``length`` tokens."""

    length: int
    end_ids: tuple[int, ...]

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        is_end = jnp.isin(jnp.arange(log_probs.shape[-1]), jnp.array(self.end_ids, jnp.int32))
        return jnp.where(is_end & (history.length < self.length), NEG_INF, log_probs)


@dataclass(frozen=True)
class SuppressTokens:
    """Forbids tokens at every position."""

    ids: tuple[int, ...]

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        return log_probs.at[:, :, jnp.array(self.ids, jnp.int32)].set(NEG_INF)


@dataclass(frozen=True)
class SuppressSequences:
    """Forbids the last token of a sequence after the others; each sequence has two or more tokens."""

    sequences: tuple[tuple[int, ...], ...]

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        ids, length = history
        for *context, last in self.sequences:
            if len(context) > ids.shape[-1]:
                continue
            latest = jax.lax.dynamic_slice_in_dim(ids, length - len(context), len(context), axis=-1)
            matches = jnp.all(latest == jnp.array(context), axis=-1) & (length >= len(context))
            log_probs = log_probs.at[:, :, last].min(jnp.where(matches, NEG_INF, jnp.inf))
        return log_probs


@dataclass(frozen=True)
class RenormalizeLogits:
    """Renormalizes the distribution after tokens were forbidden."""

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        return jax.nn.log_softmax(log_probs)


@dataclass(frozen=True)
class Temperature:
    """Divides log-probabilities: below 1 sharpens the distribution, above 1 flattens it."""

    temperature: float

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        return log_probs / self.temperature


@dataclass(frozen=True)
class TopK:
    """Keeps the ``k`` most likely tokens (Fan et al. 2018), and those as likely as the last of them."""

    k: int

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        threshold = top_k(log_probs, min(self.k, log_probs.shape[-1]))[0][..., -1:]
        return jnp.where(log_probs >= threshold, log_probs, NEG_INF)


@dataclass(frozen=True)
class TopP:
    """Keeps the smallest set of most likely tokens with total probability ``p`` (Holtzman et al. 2020)."""

    p: float

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        probs = jax.nn.softmax(log_probs)
        descending = jnp.sort(probs, axis=-1, descending=True)
        before = jnp.cumsum(descending, axis=-1) - descending
        threshold = jnp.min(jnp.where(before < self.p, descending, jnp.inf), axis=-1, keepdims=True)
        return jnp.where(probs >= threshold, log_probs, NEG_INF)


@dataclass(frozen=True)
class MinP:
    """Keeps tokens with at least ``p`` times the probability of the most likely one (Nguyen et al. 2024)."""

    p: float

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        threshold = jnp.max(log_probs, axis=-1, keepdims=True) + jnp.log(self.p)
        return jnp.where(log_probs >= threshold, log_probs, NEG_INF)


def _tokens_at(ids: Int[Array, "b m t"], where: Bool[Array, "b m t"], vocabulary: int) -> Bool[Array, "b m v"]:
    """Whether each token is in ``ids`` at a position where ``where`` is true."""
    b, m, _ = ids.shape
    rows, beams = jnp.arange(b)[:, None, None], jnp.arange(m)[:, None]
    return jnp.zeros((b, m, vocabulary), bool).at[rows, beams, ids].max(where)
