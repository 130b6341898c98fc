"""Embedding tables."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_constraint
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from flaxformer_lite.decoding_types import AnyArray
from flaxformer_lite.models.layers.linear import constrain_activations, matmul_last


class Embedding(nn.Module):
    """A table of vectors that is looked up by id, and compared with outputs where it is tied to them.

    If scaled, vectors are initialized to an expected length of 1 and multiplied by ``√d`` when they are looked up
    (Vaswani et al. 2017, section 3.4). Not ``nn.Embed``, whose parameter has another name, which does not scale, and
    whose ``attend`` computes logits in its own dtype instead of float32.

    Attributes:
      axis: logical axis of the number of vectors: ``vocab``, or ``length`` for position embeddings.
      dtype: of the result of a lookup.
      stddev: standard deviation of new elements; 0: such that lookups have a standard deviation of 1.
    """

    size: int
    width: int
    axis: str = "vocab"
    dtype: DTypeLike = jnp.float32
    scaled: bool = True
    stddev: float = 0.0

    def setup(self):
        normal = nn.initializers.normal(self.stddev or 1 / self._scale)
        init: Any = nn.with_logical_partitioning(normal, (self.axis, "embed"))
        self.table = self.param("table", init, (self.size, self.width))

    def __call__(self, ids: Int[AnyArray, "*b"]) -> Float[Array, "*b d"]:
        table = with_logical_constraint(self.table, (self.axis, None))  # rows are gathered whole
        return constrain_activations((table[ids].astype(jnp.float32) * self._scale).astype(self.dtype))

    def logits(self, x: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Products of x with every vector, in float32."""
        # The barrier keeps the transpose a separate operation, executed once before the loop of a search.
        table = jax.lax.optimization_barrier(self.table.T)
        return constrain_activations(matmul_last(x, table, jnp.float32), self.axis)

    @property
    def _scale(self) -> float:
        return self.width**0.5 if self.scaled else 1.0
