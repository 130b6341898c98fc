"""Transforms of log-probabilities, to be put one behind the other: ``(log_probs, history) → log_probs``.

Each is a frozen dataclass of plain values, so that searches made of them can be compared and hashed. The order that
they are usually put in is that of this file: what forbids comes before what cuts, which looks at what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.decoding.base import NEVER, History, top_k


@dataclass(frozen=True)
class RepetitionPenalty:
    """Multiplies the log-probability of every token that was said before by ``factor`` (Keskar et al. 2019).

    The paper divides positive logits and multiplies negative ones; log-probabilities are all negative. This is what
    Hugging Face's beam search does (and its sampling, which hands it logits, does not).
    """

    factor: float

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        """Makes what was said less likely."""
        said = jnp.arange(history.ids.shape[-1]) < history.length
        said = _marked(history.ids, jnp.broadcast_to(said, history.ids.shape), log_probs.shape[-1])
        return jnp.where(said, log_probs * self.factor, log_probs)


@dataclass(frozen=True)
class NoRepeatNgram:
    """Forbids to say the same ``n`` tokens in a row twice (Paulus et al. 2018)."""

    n: int

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        """Forbids what followed wherever the last n - 1 tokens were said before."""
        ids, length = history
        before = self.n - 1
        if ids.shape[-1] < before:  # too short an output to have one n-gram
            return log_probs
        last = jax.lax.dynamic_slice_in_dim(ids, length - before, before, axis=-1)
        follows = jnp.arange(ids.shape[-1])  # the place of a token that may have followed on the same n - 1
        seen = jnp.broadcast_to((follows >= before) & (follows < length), ids.shape)
        for back in range(1, self.n):
            seen &= jnp.roll(ids, back, axis=-1) == last[..., before - back, None]
        return jnp.where(_marked(ids, seen, log_probs.shape[-1]), NEVER, log_probs)


@dataclass(frozen=True)
class MinLength:
    """Forbids the tokens that end an output before ``length`` tokens were said."""

    length: int
    ends: tuple[int, ...]

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        """Forbids to end too soon."""
        ends = jnp.isin(jnp.arange(log_probs.shape[-1]), jnp.array(self.ends, jnp.int32))
        return jnp.where(ends & (history.length < self.length), NEVER, log_probs)


@dataclass(frozen=True)
class Forbidden:
    """Forbids tokens."""

    ids: tuple[int, ...]

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        """Forbids them at every place."""
        return log_probs.at[:, :, jnp.array(self.ids, jnp.int32)].set(NEVER)


@dataclass(frozen=True)
class ForbiddenSequences:
    """Forbids to say the tokens of a sequence one after the other. Each has two or more."""

    sequences: tuple[tuple[int, ...], ...]

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        """Forbids the last token of a sequence where the others were just said."""
        ids, length = history
        for *before, last in self.sequences:
            if len(before) > ids.shape[-1]:
                continue
            latest = jax.lax.dynamic_slice_in_dim(ids, length - len(before), len(before), axis=-1)
            said = jnp.all(latest == jnp.array(before), axis=-1) & (length >= len(before))
            log_probs = log_probs.at[:, :, last].min(jnp.where(said, NEVER, jnp.inf))
        return log_probs


@dataclass(frozen=True)
class RenormalizeLogits:
    """Gives what may be said probability 1 together, as it had before some of it was forbidden."""

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        """Log-probabilities again."""
        return jax.nn.log_softmax(log_probs)


@dataclass(frozen=True)
class Temperature:
    """Divides log-probabilities: below 1 the likely become likelier, above 1 all become alike."""

    temperature: float

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        """Sharpens or flattens."""
        return log_probs / self.temperature


@dataclass(frozen=True)
class TopK:
    """Keeps the ``k`` likeliest tokens (Fan et al. 2018), and those as likely as the last of them."""

    k: int

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        """Forbids the others."""
        least = top_k(log_probs, min(self.k, log_probs.shape[-1]))[0][..., -1:]
        return jnp.where(log_probs >= least, log_probs, NEVER)


@dataclass(frozen=True)
class TopP:
    """Keeps the fewest likeliest tokens that have probability ``p`` together (Holtzman et al. 2020)."""

    p: float

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        """Forbids the others."""
        probs = jax.nn.softmax(log_probs)
        best_first = jnp.sort(probs, axis=-1, descending=True)
        before = jnp.cumsum(best_first, axis=-1) - best_first
        least = jnp.min(jnp.where(before < self.p, best_first, jnp.inf), axis=-1, keepdims=True)
        return jnp.where(probs >= least, log_probs, NEVER)


@dataclass(frozen=True)
class MinP:
    """Keeps tokens with at least the share ``p`` of the likeliest one's probability (Nguyen et al. 2024)."""

    p: float

    def __call__(self, log_probs: Float[Array, "b m v"], history: History) -> Float[Array, "b m v"]:
        """Forbids the others."""
        least = jnp.max(log_probs, axis=-1, keepdims=True) + jnp.log(self.p)
        return jnp.where(log_probs >= least, log_probs, NEVER)


def _marked(ids: Int[Array, "b m t"], where: Bool[Array, "b m t"], vocabulary: int) -> Bool[Array, "b m v"]:
    """Which tokens are among those of ``ids`` where ``where`` holds."""
    b, m, _ = ids.shape
    rows, beams = jnp.arange(b)[:, None, None], jnp.arange(m)[:, None]
    return jnp.zeros((b, m, vocabulary), bool).at[rows, beams, ids].max(where)
