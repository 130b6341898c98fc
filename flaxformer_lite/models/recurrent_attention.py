"""How a recurrent decoder finds its place in the source: one score for each pair of states, and their mean by it."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.models.attention import NEVER
from flaxformer_lite.models.interface import Memory
from flaxformer_lite.models.layers import KERNEL, Dense, named, product
from flaxformer_lite.types import AnyArray


class Attended(NamedTuple):
    """The source as attention reads it; keys are what scores need of it, computed once."""

    keys: Float[Array, "b s a"]
    values: Float[Array, "b s e"]
    segments: Int[AnyArray, "b s"]


class Additive(nn.Module):
    """``vᵀ tanh(W q + U h + b)``: Bahdanau et al. (2015), section A.1.2.

    Also the "concat" of Luong et al. (2015), equation 8: a product with two vectors one above the other is the sum of
    two products.

    Attributes:
      width: number of hidden units.
    """

    width: int

    def setup(self):
        self.key = Dense(self.width, ("embed", "mlp"))
        self.v = self.param("v", named(nn.initializers.normal(self.width**-0.5), "mlp"), (self.width,))

    def keys(self, states: Float[Array, "b s e"]) -> Float[Array, "b s a"]:
        """What each place of the source adds inside the tanh."""
        return self.key(states)

    @nn.compact
    def __call__(self, query: Float[Array, "b m d"], keys: Float[Array, "b s a"]) -> Float[Array, "b m s"]:
        """How well each place of the source fits each query."""
        kernel = self.param("query", named(KERNEL, "embed", "mlp"), (query.shape[-1], self.width))
        return jnp.tanh(product(query, kernel)[:, :, None] + keys[:, None]) @ self.v.astype(query.dtype)


class Dot(nn.Module):
    """``qᵀ h``: Luong et al. (2015), equation 8."""

    def keys(self, states: Float[Array, "b s e"]) -> Float[Array, "b s a"]:
        """The states of the source as they are."""
        return states

    def __call__(self, query: Float[Array, "b m d"], keys: Float[Array, "b s a"]) -> Float[Array, "b m s"]:
        """How well each place of the source fits each query."""
        return jnp.einsum("bmd,bsd->bms", query, keys)


class General(Dot):
    """``qᵀ W h``: Luong et al. (2015), equation 8.

    Attributes:
      width: of queries.
    """

    width: int

    @nn.compact
    def keys(self, states: Float[Array, "b s e"]) -> Float[Array, "b s a"]:
        """W times each place of the source."""
        return product(states, self.param("key", named(KERNEL, "embed", "mlp"), (states.shape[-1], self.width)))


class Attention(nn.Module):
    """The mean of the source's states, weighted by a softmax of their scores.

    Attributes:
      score: ``Additive``, ``General`` or ``Dot``.
    """

    score: nn.Module

    def read(self, memory: Memory) -> Attended:
        """The source, ready to be attended."""
        return Attended(self.score.keys(memory.states), memory.states, memory.segments)

    def __call__(
        self, query: Float[Array, "b m d"], attended: Attended
    ) -> tuple[Float[Array, "b m e"], Float[Array, "b m s"]]:
        """What each query finds, and how much of each place of the source is in it; padding is never attended."""
        inside = (attended.segments != 0)[:, None, :]
        scores = self.score(query, attended.keys).astype(jnp.float32)
        weights = jax.nn.softmax(jnp.where(inside, scores, NEVER), axis=-1)
        return jnp.einsum("bms,bse->bme", weights.astype(query.dtype), attended.values), weights


def make_score(name: str, width: int, hidden: int) -> nn.Module:
    """The score of this name for queries of this width."""
    return {"additive": Additive(hidden), "concat": Additive(hidden), "general": General(width), "dot": Dot()}[name]
