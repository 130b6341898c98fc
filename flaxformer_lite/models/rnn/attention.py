"""Attention of recurrent decoders: a score for each pair of decoder and encoder state, and the mean weighted by it."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.config.model_dataclasses import StackConfig
from flaxformer_lite.decoding_types import AnyArray
from flaxformer_lite.models.interface import EncoderOutput
from flaxformer_lite.models.layers.attention import MASKED
from flaxformer_lite.models.layers.linear import KERNEL_INIT, Dense, matmul_last


class RnnSource(NamedTuple):
    """The source as attention reads it; keys are what scores need of it, computed once."""

    keys: Float[Array, "b s a"]
    values: Float[Array, "b s e"]
    segments: Int[AnyArray, "b s"]


class AdditiveScore(nn.Module):
    """``vᵀ tanh(W q + U h + b)``: Bahdanau et al. (2015), section A.1.2.

    Also the "concat" of Luong et al. (2015), equation 8: the product with two concatenated vectors is the sum of two
    products.

    Attributes:
      width: number of hidden units.
    """

    width: int

    def setup(self):
        self.key = Dense(self.width, ("embed", "mlp"))
        init: Any = nn.with_logical_partitioning(nn.initializers.normal(self.width**-0.5), ("mlp",))
        self.v = self.param("v", init, (self.width,))

    def keys(self, states: Float[Array, "b s e"]) -> Float[Array, "b s a"]:
        """``U h + b``."""
        return self.key(states)

    @nn.compact
    def __call__(self, query: Float[Array, "b m d"], keys: Float[Array, "b s a"]) -> Float[Array, "b m s"]:
        """The score of each query and position."""
        init: Any = nn.with_logical_partitioning(KERNEL_INIT, ("embed", "mlp"))
        projected = matmul_last(query, self.param("query", init, (query.shape[-1], self.width)))
        return jnp.tanh(projected[:, :, None] + keys[:, None]) @ self.v.astype(query.dtype)


class DotScore(nn.Module):
    """``qᵀ h``: Luong et al. (2015), equation 8."""

    def keys(self, states: Float[Array, "b s e"]) -> Float[Array, "b s a"]:
        """The states themselves."""
        return states

    def __call__(self, query: Float[Array, "b m d"], keys: Float[Array, "b s a"]) -> Float[Array, "b m s"]:
        """The score of each query and position."""
        return jnp.einsum("bmd,bsd->bms", query, keys)


class GeneralScore(DotScore):
    """``qᵀ W h``: Luong et al. (2015), equation 8.

    Attributes:
      width: of queries.
    """

    width: int

    @nn.compact
    def keys(self, states: Float[Array, "b s e"]) -> Float[Array, "b s a"]:
        """``W h``."""
        init: Any = nn.with_logical_partitioning(KERNEL_INIT, ("embed", "mlp"))
        return matmul_last(states, self.param("key", init, (states.shape[-1], self.width)))


class RnnAttention(nn.Module):
    """The mean of the encoder's states, weighted by a softmax of their scores.

    Attributes:
      score: ``AdditiveScore``, ``GeneralScore`` or ``DotScore``.
    """

    score: nn.Module

    def project_states(self, encoder_output: EncoderOutput) -> RnnSource:
        """Keys and values of the source."""
        keys = self.score.keys(encoder_output.states)
        return RnnSource(keys, encoder_output.states, encoder_output.segments)

    def __call__(
        self, query: Float[Array, "b m d"], source: RnnSource
    ) -> tuple[Float[Array, "b m e"], Float[Array, "b m s"]]:
        """The weighted mean for each query, and the weights; those of padding are 0."""
        inside = (source.segments != 0)[:, None, :]
        scores = self.score(query, source.keys).astype(jnp.float32)
        weights = jax.nn.softmax(jnp.where(inside, scores, MASKED), axis=-1)
        return jnp.einsum("bms,bse->bme", weights.astype(query.dtype), source.values), weights


def make_rnn_attention(config: StackConfig) -> RnnAttention:
    """The attention that ``rnn.attention`` names."""
    additive = AdditiveScore(config.rnn.attention_dim or config.width)
    scores = {"additive": additive, "concat": additive, "general": GeneralScore(config.width), "dot": DotScore()}
    return RnnAttention(scores[config.rnn.attention])
