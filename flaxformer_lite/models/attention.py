"""Multi-head attention over a whole sequence, over the source, and over what hypotheses have said so far."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.config import ModelConfig
from flaxformer_lite.models.halves import Half
from flaxformer_lite.models.layers import Dropout, named, placed, product
from flaxformer_lite.types import AnyArray

NEVER = -1e9  # a logit that no softmax gives weight to, yet finite: a row of padding alone yields no NaN


class KeyValue(NamedTuple):
    """Keys and values, head by head; keys lie so that products with queries need not transpose them."""

    keys: Float[Array, "*b h k l"]
    values: Float[Array, "*b h l k"]


class Sight(NamedTuple):
    """What queries q may see of places l.

    Over beams it is one token q of each hypothesis, and places l of what each beam j wrote: then all have a second axis
    of beams.

    Attributes:
      mask: whether they may.
    """

    mask: Bool[Array, "b *j #q l"]


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention in several heads (Vaswani et al. 2017, section 3.2).

    Keys and values are projected on their own (``project``), because what is attended outlives the query: a source
    is projected once, a hypothesis one token a step.

    Attributes:
      config: its kinds of parts.
      half: the sizes of queries, and of the result.
      attended_width: of what is attended.
    """

    config: ModelConfig
    half: Half
    attended_width: int

    def setup(self):
        width = self.half.width
        heads = (self.half.num_heads, self.half.head_width)
        glorot = partial(nn.initializers.variance_scaling, 1.0, "fan_avg", "uniform")
        zeros = nn.initializers.zeros
        kernel = named(glorot(in_axis=0, out_axis=(1, 2)), "embed", "heads", "head_width")
        bias = named(zeros, "heads", "head_width")
        self.query = self.param("query", kernel, (width, *heads))
        self.key, self.value = (self.param(name, kernel, (self.attended_width, *heads)) for name in ("key", "value"))
        self.query_bias, self.key_bias, self.value_bias = (
            self.param(f"{name}_bias", bias, heads) for name in ("query", "key", "value")
        )
        out = named(glorot(in_axis=(0, 1), out_axis=2), "heads", "head_width", "embed")
        self.out = self.param("out", out, (*heads, width))
        self.out_bias = self.param("out_bias", named(zeros, "embed"), (width,))
        self.drop = Dropout(self.config.dropout)

    def project(self, x: Float[Array, "*b l d"]) -> KeyValue:
        """Keys and values of x."""
        keys = _heads(x, self.key, self.key_bias)
        return KeyValue(jnp.swapaxes(keys, -1, -2), _heads(x, self.value, self.value_bias))

    def __call__(
        self, x: Float[Array, "b q d"], attended: KeyValue, sight: Sight, train: bool
    ) -> Float[Array, "b q d"]:
        """For each query in x, the mean of the values weighted by how well their keys fit, where it may see them."""
        weights = self.weights(x, attended, sight, train)
        return self._merge(jnp.einsum("bhql,bhlk->bhqk", weights.astype(x.dtype), attended.values))

    def weights(
        self, x: Float[Array, "b q d"], attended: KeyValue, sight: Sight, train: bool
    ) -> Float[Array, "b h q l"]:
        """How much of each place every query takes, head by head, in float32."""
        logits = _fit("bhqk,bhkl->bhql", self._queries(x), attended.keys)
        return self._weights(logits, sight, axis=-1, train=train)

    def over_beams(self, x: Float[Array, "b m d"], attended: KeyValue, sight: Sight) -> Float[Array, "b m d"]:
        """The same for one token of each hypothesis, over the keys and values that all beams j have written.

        ``sight.mask[b, j, m, l]``: hypothesis m goes back to what beam j wrote at place l. So nothing is copied when
        hypotheses change places; the keys of all beams are read either way.
        """
        queries = self._queries(x)[:, None]
        per_beam = jnp.broadcast_to(queries, attended.keys.shape[:2] + queries.shape[2:])  # or XLA transposes all keys
        logits = _fit("bjhmk,bjhkl->bjhml", per_beam, attended.keys)
        weights = self._weights(logits, sight, axis=(1, 4), train=False)
        return self._merge(jnp.einsum("bjhml,bjhlk->bjhmk", weights.astype(x.dtype), attended.values).sum(1))

    def _queries(self, x):
        return _heads(x, self.query, self.query_bias) * self.half.head_width**-0.5

    def _weights(self, logits, sight, axis, train):
        weights = jax.nn.softmax(jnp.where(sight.mask[..., None, :, :], logits, NEVER), axis=axis)
        return self.drop(weights, train)

    def _merge(self, values: Float[Array, "b h q k"]) -> Float[Array, "b q d"]:
        b, _, q, _ = values.shape
        y = product(jnp.moveaxis(values, 1, 2).reshape(b, q, -1), self.out.reshape(-1, self.half.width))
        return placed(y + self.out_bias.astype(y.dtype))


def _heads(x, kernel, bias):
    return jnp.moveaxis(placed(product(x, kernel) + bias.astype(x.dtype), "heads", None), -2, -3)


_fit = partial(jnp.einsum, preferred_element_type=jnp.float32)


def same_segment(query: Int[AnyArray, "b q"], attended: Int[AnyArray, "b l"]) -> Bool[Array, "b q l"]:
    """A token sees those of its own segment; padding (segment 0) sees and is seen by nothing."""
    return (query[:, :, None] == attended[:, None, :]) & (query[:, :, None] != 0)


def causal(length: int) -> Bool[Array, "1 l l"]:
    """A token sees itself and those before it."""
    return jnp.tril(jnp.ones((1, length, length), bool))
