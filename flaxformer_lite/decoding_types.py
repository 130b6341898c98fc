"""Types of jax arrays at the interface of models and decoding: caches, steps, hypotheses."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from jaxtyping import Array, Float, Int
from numpy import ndarray

AnyArray = Array | ndarray  # data/ makes NumPy arrays, everything after it jax arrays

CacheT = TypeVar("CacheT", bound="Cache")


@runtime_checkable  # for the run-time type checks of the tests
class Cache(Protocol):
    """The decoding state of hypotheses: every leaf leads with ``[b, m]`` (batch, beams)."""

    def select(self: CacheT, parents: Int[Array, "b m"]) -> CacheT:
        """Reorders beams: beam i continues beam ``parents[:, i]`` of the same source."""
        ...


EncodedT = TypeVar("EncodedT", contravariant=True)


@runtime_checkable
class Step(Protocol[CacheT, EncodedT]):
    """One step of incremental decoding of any model."""

    def __call__(
        self, token: Int[Array, "b m"], cache: CacheT, encoded: EncodedT
    ) -> tuple[Float[Array, "b m v"], CacheT]:
        """Computes the logits of the next token from one token per hypothesis, and the cache after it."""
        ...


class Hypotheses(NamedTuple):
    """Results of a search for each source, best first.

    Attributes:
      ids: token ids without the begin token; the end token where it was reached, then padding.
      scores: values that hypotheses are ranked by: log-probabilities, normalized where the search normalizes.
      lengths: number of tokens, the end token included.
    """

    ids: Int[Array, "b m t"]
    scores: Float[Array, "b m"]
    lengths: Int[Array, "b m"]
