"""Ancestral sampling: each token is drawn as likely as the model, or what the transforms make of it, says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from flaxformer_lite.decoding.base import Query, Rules, Transform, top_k
from flaxformer_lite.decoding.decode_loop import walk
from flaxformer_lite.types import AnyArray, Cache, Hypotheses, SpecialIds, Step


@dataclass(frozen=True)
class Sample:
    """Draws targets independently; the likeliest comes first, and one drawn twice is there twice.

    Scores are the model's own log-probabilities, whatever the transforms made of them. What is drawn is a function of
    the row's seed, the number of the sample and the step alone: so the first samples of many are those of a few. A
    target that has not ended at its limit stays without an end token.

    Attributes:
      samples: how many for each source.
      transforms: change how likely each token is, as ``transforms.Temperature`` and ``TopP`` do.
      ends: tokens besides the end token that end a target.
    """

    samples: int
    transforms: tuple[Transform, ...] = ()
    ends: tuple[int, ...] = ()

    def __post_init__(self):
        if self.samples < 1:
            raise ValueError(f"samples={self.samples} must be at least 1")

    @property
    def beam_size(self) -> int:
        """All samples of a source are drawn together."""
        return self.samples

    def __call__(
        self, step: Step, cache: Cache, encoded: Any, query: Query, max_length: int, special: SpecialIds
    ) -> Hypotheses:
        """Samples for every row of the batch; see ``search.Search``."""

        def draw(ranked: Float[Array, "b m v"], length: Int[Array, ""]) -> Int[Array, "b m"]:
            noise = _noise(query.seeds, (self.samples, ranked.shape[-1]), length)
            return top_k(ranked + noise, 1)[1][..., 0]

        rules = Rules(query, self.transforms, special, self.ends)
        drawn = walk(step, cache, encoded, rules, (self.samples, max_length), draw)
        scores, order = jax.lax.top_k(drawn.scores, self.samples)
        return Hypotheses(
            ids=jnp.take_along_axis(drawn.ids, order[:, :, None], axis=1),
            scores=scores,
            lengths=jnp.take_along_axis(drawn.lengths, order, axis=1),
        )


def _noise(seeds: UInt32[AnyArray, " b"], size: tuple[int, int], step: Int[Array, ""]) -> Float[Array, "b m v"]:
    """Gumbel noise: the largest of log-probabilities with it added is a draw from them (Gumbel 1954)."""
    samples, vocabulary = size

    def of_sample(key: Array, sample: Int[Array, ""]) -> Float[Array, " v"]:
        key = jax.random.fold_in(jax.random.fold_in(key, sample), step)
        return jax.random.gumbel(key, (vocabulary,))

    keys = jax.vmap(partial(jax.random.key, impl="threefry2x32"))(seeds)
    return jax.vmap(jax.vmap(of_sample, (None, 0)), (0, None))(keys, jnp.arange(samples))
