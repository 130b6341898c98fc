"""KV cache for beam search. Beams are reordered through an ancestry table, not by copying keys and values."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from flaxformer_lite.models.layers.attention import KeyValue


class KVCache(NamedTuple):
    """Keys and values of the hypotheses of a search; implements ``Cache``.

    Attributes:
      layers: for each decoder layer the keys and values that beam m wrote at position l: ``[b, m, h, k, l]`` and
        ``[b, m, h, l, k]``.
      ancestry: which beam wrote position l of the hypothesis that is now in beam m.
      position: number of tokens read; the same for all hypotheses of a source, as in every search.
    """

    layers: tuple[KeyValue, ...]
    ancestry: Int[Array, "b m l"]
    position: Int[Array, "b m"]

    def select(self, parents: Int[Array, "b m"]) -> KVCache:
        return self._replace(
            ancestry=jnp.take_along_axis(self.ancestry, parents[:, :, None], axis=1),
            position=jnp.take_along_axis(self.position, parents, axis=1),
        )

    def mark_current(self) -> KVCache:
        """Makes each beam its own ancestor at the position that it is about to write."""
        own = jnp.arange(self.position.shape[1])[None, :, None]
        current = jnp.arange(self.ancestry.shape[2]) == self.position[:, :, None]
        return self._replace(ancestry=jnp.where(current, own, self.ancestry))

    def ancestor_mask(self) -> Bool[Array, "b j m l"]:
        """Whether beam j wrote position l of hypothesis m."""
        _, beams, length = self.ancestry.shape
        written = jnp.arange(length) <= self.position[:, :, None]
        return (self.ancestry[:, None] == jnp.arange(beams)[:, None, None]) & written[:, None]

    def append_kv(self, layer: int, new: KeyValue) -> KVCache:
        """Writes the keys and values of the current position, which lie in ``new`` side by side for all beams."""
        b, m = jnp.ix_(*(jnp.arange(size) for size in self.position.shape))
        past = self.layers[layer]
        written = KeyValue(
            keys=past.keys.at[b, m, :, :, self.position].set(jnp.moveaxis(new.keys, -1, 1)),
            values=past.values.at[b, m, :, self.position].set(jnp.moveaxis(new.values, -2, 1)),
        )
        return self._replace(layers=(*self.layers[:layer], written, *self.layers[layer + 1 :]))


def init_cache(source: KeyValue, num_layers: int, beams: int, max_length: int) -> KVCache:
    """An empty cache for ``max_length`` tokens of ``beams`` hypotheses, with the heads and dtype of a source's keys."""
    batch, heads, head_dim, _ = source.keys.shape
    zeros = partial(jnp.zeros, dtype=source.keys.dtype)
    past = KeyValue(
        keys=zeros((batch, beams, heads, head_dim, max_length)),
        values=zeros((batch, beams, heads, max_length, head_dim)),
    )
    return KVCache(
        layers=(past,) * num_layers,
        ancestry=jnp.broadcast_to(jnp.arange(beams)[:, None], (batch, beams, max_length)),
        position=jnp.zeros((batch, beams), jnp.int32),
    )
