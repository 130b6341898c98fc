"""What the parts say to one another: token arrays, batches, hypotheses, and the letters of their dimensions.

Letters, the same in every signature and einsum:

    b  batch                 h  heads                    l  length (any)
    s  source length         k  width of a head          m  beams of one source
    t  target length         f  hidden of feed-forward   n  batch times beams
    d  width of the model    v  vocabulary
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from jaxtyping import Array, Float, Int
from numpy import ndarray

AnyArray = Array | ndarray  # data/ makes NumPy arrays, everything after it jax ones


class Tokens(NamedTuple):
    """Rows of token ids. One example a row is one segment a row; packed rows have several.

    Attributes:
      ids: token ids; what stands in padding does not matter.
      segments: 1, 2, … number the examples within a row; 0 is padding.
      positions: position of each token within its own segment, from 0.
    """

    ids: Int[AnyArray, "b l"]
    segments: Int[AnyArray, "b l"]
    positions: Int[AnyArray, "b l"]


class Batch(NamedTuple):
    """Source and target sentences of one training step.

    Attributes:
      source: source tokens, each sentence closed by the end token.
      target_in: what the decoder reads: the target shifted right behind the begin token.
      labels: what it shall say at each place: the target closed by the end token.
      weights: weight of each label in the loss; 0 in padding.
    """

    source: Tokens
    target_in: Tokens
    labels: Int[AnyArray, "b t"]
    weights: Float[AnyArray, "b t"]


class SpecialIds(NamedTuple):
    """The ids with a meaning of their own; each vocabulary says which they are.

    Attributes:
      pad: fills up rows.
      end: closes a text; the last that is said.
      begin: what a decoder reads first, which may be the same as ``pad`` or ``end``.
      unknown: stands for text that has no id.
    """

    pad: int
    end: int
    begin: int
    unknown: int


CacheT = TypeVar("CacheT", bound="Cache")


@runtime_checkable  # so that the tests' run-time checks can ask
class Cache(Protocol):
    """The state of one hypothesis in the middle of decoding: every leaf leads with ``[b, m]`` (batch, beams)."""

    def select(self: CacheT, parents: Int[Array, "b m"]) -> CacheT:
        """Makes beam i go on from what was beam ``parents[:, i]`` of the same source."""
        ...


EncodedT = TypeVar("EncodedT", contravariant=True)


@runtime_checkable
class Step(Protocol[CacheT, EncodedT]):
    """One step of incremental decoding, of any model: all that a search knows of it."""

    def __call__(
        self, token: Int[Array, "b m"], cache: CacheT, encoded: EncodedT
    ) -> tuple[Float[Array, "b m v"], CacheT]:
        """Reads one token a hypothesis; returns the logits of the next one and the state after it."""
        ...


class Hypotheses(NamedTuple):
    """What a search found for each source, best first.

    Attributes:
      ids: token ids without the begin token; the end token is kept where it was reached; pad after it.
      scores: by what they are ranked (a log-probability, normalized where the search says so).
      lengths: number of tokens, the end token included.
    """

    ids: Int[Array, "b m t"]
    scores: Float[Array, "b m"]
    lengths: Int[Array, "b m"]
