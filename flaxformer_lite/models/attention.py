"""Multi-head attention over a whole sequence, over the source, and over what hypotheses have said so far."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.models import initial
from flaxformer_lite.models.halves import Half
from flaxformer_lite.models.layers import Dropout, bias, capped, named, placed, plus, product
from flaxformer_lite.models.rotary import Turn, turned
from flaxformer_lite.types import AnyArray

NEVER = -1e9  # a logit that no softmax gives weight to, yet finite: a row of padding alone yields no NaN


class KeyValue(NamedTuple):
    """Keys and values, head by head; keys lie so that products with queries need not transpose them."""

    keys: Float[Array, "*b h k l"]
    values: Float[Array, "*b h l k"]


class Sight(NamedTuple):
    """What queries q may see of places l, and what the places tell.

    Over beams it is one token q of each hypothesis, and places l of what each beam j wrote: then all have a second axis
    of beams.

    Attributes:
      mask: whether they may.
      distances: how far each place stands behind each query; of self-attention alone.
      biases: what is added to the logits.
      turns: by what the queries are turned, and the keys of the same places.
    """

    mask: Bool[Array, "b *j #q l"]
    distances: Any = ()
    biases: tuple[Float[Array, "#b *j h q l"], ...] = ()
    turns: tuple[Turn, ...] = ()


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention in several heads (Vaswani et al. 2017, section 3.2).

    Keys and values are projected on their own (``project``), because what is attended outlives the query: a source
    is projected once, a hypothesis one token a step. Where they have fewer heads, groups of queries' heads share them.

    Attributes:
      config: its kinds of parts.
      half: the sizes of queries, and of the result.
      attended_width: of what is attended.
    """

    config: ModelConfig
    half: Half
    attended_width: int

    def setup(self):
        c, half, biased = self.config.attention, self.half, self.config.attention.bias
        heads, key_heads = (half.num_heads, half.head_width), (half.num_key_heads, half.head_width)
        divisor = c.query_scalar or half.head_width
        self.scale = divisor**-0.5
        self.drop = Dropout(c.dropout)

        def inwards(name: str, width: int, heads: tuple[int, int], factor: float = 1.0) -> Any:
            kernel = initial.kernel(self.config, ins=0, outs=(1, 2), factor=factor)
            return self.param(name, named(kernel, "embed", "heads", "head_dim"), (width, *heads))

        # Whatever they are divided by later, queries are of one scale then.
        self.query = inwards("query", half.width, heads, (divisor / half.head_width) ** 0.5)
        self.key, self.value = (inwards(name, self.attended_width, key_heads) for name in ("key", "value"))
        self.query_bias, self.key_bias, self.value_bias = (
            bias(self, f"{name}_bias", biased, shape, ("heads", "head_dim"))
            for name, shape in (("query", heads), ("key", key_heads), ("value", key_heads))
        )
        out = named(initial.kernel(self.config, ins=(0, 1), outs=2), "heads", "head_dim", "embed")
        self.out = self.param("out", out, (*heads, half.width))
        self.out_bias = bias(self, "out_bias", biased, (half.width,), ("embed",))

    def project(self, x: Float[Array, "*b l d"], turns: tuple[Turn, ...]) -> KeyValue:
        """Keys, turned, and values of x."""
        keys = _by_head(turned(self._heads(x, self.key, self.key_bias), turns))
        return KeyValue(jnp.swapaxes(keys, -1, -2), _by_head(self._heads(x, self.value, self.value_bias)))

    def __call__(
        self, x: Float[Array, "b q d"], attended: KeyValue, sight: Sight, train: bool
    ) -> Float[Array, "b q d"]:
        """For each query in x, the mean of the values weighted by how well their keys fit, where it may see them."""
        weights = self._grouped(self.weights(x, attended, sight, train)).astype(x.dtype)
        return self._merge(self._ungrouped(jnp.einsum("bhql,bhlk->bhqk", weights, attended.values)))

    def weights(
        self, x: Float[Array, "b q d"], attended: KeyValue, sight: Sight, train: bool
    ) -> Float[Array, "b h q l"]:
        """How much of each place every query takes, head by head, in float32."""
        logits = _fit("bhqk,bhkl->bhql", self._grouped(self._queries(x, sight)), attended.keys)
        return self._weights(self._ungrouped(logits), sight, axis=-1, train=train)

    def over_beams(self, x: Float[Array, "b m d"], attended: KeyValue, sight: Sight) -> Float[Array, "b m d"]:
        """The same for one token of each hypothesis, over the keys and values that all beams j have written.

        ``sight.mask[b, j, m, l]``: hypothesis m goes back to what beam j wrote at place l. So nothing is copied when
        hypotheses change places; the keys of all beams are read either way.
        """
        queries = self._grouped(self._queries(x, sight))[:, None]
        per_beam = jnp.broadcast_to(queries, attended.keys.shape[:2] + queries.shape[2:])  # or XLA transposes all keys
        logits = self._ungrouped(_fit("bjhmk,bjhkl->bjhml", per_beam, attended.keys))
        weights = self._grouped(self._weights(logits, sight, axis=(1, 4), train=False)).astype(x.dtype)
        return self._merge(self._ungrouped(jnp.einsum("bjhml,bjhlk->bjhmk", weights, attended.values).sum(1)))

    def _heads(self, x, kernel, bias):
        return placed(plus(product(x, kernel), bias), "heads", None)

    def _queries(self, x, sight):
        return _by_head(turned(self._heads(x, self.query, self.query_bias), sight.turns)) * self.scale

    def _weights(self, logits, sight, axis, train):
        logits = sum(sight.biases, capped(logits, self.config.attention.softcap))
        weights = jax.nn.softmax(jnp.where(sight.mask[..., None, :, :], logits, NEVER), axis=axis)
        return self.drop(weights, train)

    def _grouped(self, x: Float[Array, "*b h q _"]) -> Float[Array, "*b g _ _"]:
        """Heads that share keys and values as one, which asks for each of them: no key is copied."""
        return x.reshape(*x.shape[:-3], self.half.num_key_heads, -1, x.shape[-1])

    def _ungrouped(self, x: Float[Array, "*b g _ _"]) -> Float[Array, "*b h q _"]:
        """The inverse."""
        each = x.shape[-2] * self.half.num_key_heads // self.half.num_heads
        return x.reshape(*x.shape[:-3], self.half.num_heads, each, x.shape[-1])

    def _merge(self, values: Float[Array, "b h q k"]) -> Float[Array, "b q d"]:
        b, _, q, _ = values.shape
        y = product(jnp.moveaxis(values, 1, 2).reshape(b, q, -1), self.out.reshape(-1, self.half.width))
        return placed(plus(y, self.out_bias))


def _by_head(x: Float[Array, "*b l h k"]) -> Float[Array, "*b h l k"]:
    return jnp.moveaxis(x, -2, -3)


_fit = partial(jnp.einsum, preferred_element_type=jnp.float32)


def same_segment(query: Int[AnyArray, "b q"], attended: Int[AnyArray, "b l"]) -> Bool[Array, "b q l"]:
    """A token sees those of its own segment; padding (segment 0) sees and is seen by nothing."""
    return (query[:, :, None] == attended[:, None, :]) & (query[:, :, None] != 0)


def causal(length: int) -> Bool[Array, "1 l l"]:
    """A token sees itself and those before it."""
    return jnp.tril(jnp.ones((1, length, length), bool))
