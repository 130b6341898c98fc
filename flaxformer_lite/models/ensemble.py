"""Ensembles: several models whose predictions are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.decoding_types import Cache
from flaxformer_lite.models.interface import Encoded
from flaxformer_lite.types import Tokens


class EnsembleCache(NamedTuple):
    """Each member's cache of the same hypotheses; implements ``Cache``."""

    members: tuple[Cache, ...]

    def select(self, parents: Int[Array, "b m"]) -> EnsembleCache:
        return EnsembleCache(tuple(member.select(parents) for member in self.members))


def mean_of_probabilities(logits: Sequence[Float[Array, "*any v"]]) -> Float[Array, "*any v"]:
    """The log of the mean of the members' probabilities: a token is likely if one member finds it likely."""
    log_probs = jax.nn.log_softmax(jnp.stack(logits).astype(jnp.float32))
    return jax.nn.logsumexp(log_probs, axis=0) - jnp.log(len(logits))


def mean_of_log_probabilities(logits: Sequence[Float[Array, "*any v"]]) -> Float[Array, "*any v"]:
    """The mean of log-probabilities, renormalized: a token is unlikely if one member finds it unlikely."""
    return jax.nn.log_softmax(jax.nn.log_softmax(jnp.stack(logits).astype(jnp.float32)).mean(axis=0))


class Ensemble(nn.Module):
    """Models of any architectures over the same vocabularies; implements ``Seq2Seq`` with log-probabilities as logits.

    Its parameters are those of the members, under ``members_0``, ``members_1``, …

    Attributes:
      mean: of their logits, one of the functions above.
    """

    members: Sequence[nn.Module]
    mean: Callable[[Sequence[Array]], Array]

    @property
    def max_supported_length(self) -> float:
        """The most tokens that a source or target may have; infinite without learned positions."""
        return min(member.max_supported_length for member in self._models)

    def __call__(self, source: Tokens, target_in: Tokens, train: bool) -> Float[Array, "b t v"]:
        """Log-probabilities of whole targets: ``decode`` after ``encode``."""
        return self.decode(target_in, self.encode(source, train=train), train=train)

    def encode(self, source: Tokens, *, train: bool) -> Encoded:
        return tuple(member.encode(source, train=train) for member in self._models)

    def decode(self, target_in: Tokens, encoded: Encoded, *, train: bool) -> Float[Array, "b t v"]:
        pairs = zip(self._models, encoded, strict=True)
        return self.mean([member.decode(target_in, own, train=train) for member, own in pairs])

    def attention(self, target_in: Tokens, encoded: Encoded) -> Float[Array, "b t _"]:
        """The mean of the members that have attention; of width 0 if none has."""
        each = [member.attention(target_in, own) for member, own in zip(self._models, encoded, strict=True)]
        attending = [attention for attention in each if attention.shape[-1]]
        return jnp.stack(attending).mean(axis=0) if attending else each[0]

    def init_cache(self, encoded: Encoded, beams: int, max_length: int) -> EnsembleCache:
        pairs = zip(self._models, encoded, strict=True)
        return EnsembleCache(tuple(member.init_cache(own, beams, max_length) for member, own in pairs))

    def step(
        self, token: Int[Array, "b m"], cache: EnsembleCache, encoded: Encoded
    ) -> tuple[Float[Array, "b m v"], EnsembleCache]:
        members = zip(self._models, cache.members, encoded, strict=True)
        logits, caches = zip(*(member.step(token, *own) for member, *own in members), strict=True)
        return self.mean(logits), EnsembleCache(caches)

    @property
    def _models(self) -> Any:  # Linen types submodules as Module, without our interface
        return self.members
