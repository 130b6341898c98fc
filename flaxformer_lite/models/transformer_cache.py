"""What hypotheses of a Transformer have said so far, of which nothing is copied when they change places."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from flaxformer_lite.models.attention import KeyValue


class TransformerCache(NamedTuple):
    """What hypotheses have said so far.

    Attributes:
      layers: for each decoder layer the keys and values that beam m wrote at place l: ``[b, m, h, k, l]``
        and ``[b, m, h, l, k]``.
      ancestry: which beam wrote the token at place l of the hypothesis that is now in beam m.
      position: number of tokens read; all hypotheses of one source stand at the same place, as every search keeps them.
    """

    layers: tuple[KeyValue, ...]
    ancestry: Int[Array, "b m l"]
    position: Int[Array, "b m"]

    def select(self, parents: Int[Array, "b m"]) -> TransformerCache:
        """Makes beam i go on from beam ``parents[:, i]``: its line of ancestors moves, keys and values stay."""
        return self._replace(
            ancestry=jnp.take_along_axis(self.ancestry, parents[:, :, None], axis=1),
            position=jnp.take_along_axis(self.position, parents, axis=1),
        )


def empty(like: KeyValue, layers: int, beams: int, max_length: int) -> TransformerCache:
    """Room for ``max_length`` tokens of ``beams`` hypotheses a source, in the shape and type of a source's keys."""
    batch, heads, head_width, _ = like.keys.shape
    room = partial(jnp.zeros, dtype=like.keys.dtype)
    past = KeyValue(
        keys=room((batch, beams, heads, head_width, max_length)),
        values=room((batch, beams, heads, max_length, head_width)),
    )
    return TransformerCache(
        layers=(past,) * layers,
        ancestry=jnp.broadcast_to(jnp.arange(beams)[:, None], (batch, beams, max_length)),
        position=jnp.zeros((batch, beams), jnp.int32),
    )


def begun(cache: TransformerCache) -> TransformerCache:
    """The cache in which each beam is its own ancestor at the place that it is about to write."""
    own = jnp.arange(cache.position.shape[1])[None, :, None]
    here = jnp.arange(cache.ancestry.shape[2]) == cache.position[:, :, None]
    return cache._replace(ancestry=jnp.where(here, own, cache.ancestry))


def written(past: KeyValue, new: KeyValue, position: Int[Array, "b m"]) -> KeyValue:
    """The keys and values of a layer with those of each beam's next place, which lie in ``new`` side by side."""
    b, m = jnp.ix_(*(jnp.arange(size) for size in position.shape))
    return KeyValue(
        keys=past.keys.at[b, m, :, :, position].set(jnp.moveaxis(new.keys, -1, 1)),
        values=past.values.at[b, m, :, position].set(jnp.moveaxis(new.values, -2, 1)),
    )


def own_past(cache: TransformerCache) -> Bool[Array, "b j m l"]:
    """Whether hypothesis m goes back to what beam j wrote at place l."""
    _, beams, length = cache.ancestry.shape
    before = jnp.arange(length) <= cache.position[:, :, None]
    return (cache.ancestry[:, None] == jnp.arange(beams)[:, None, None]) & before[:, None]
