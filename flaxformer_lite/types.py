"""Token arrays, batches and special ids, which data/ makes and models read, and the letters of array dimensions.

Letters, the same in every signature and einsum:

    b  batch                 h  heads                    l  length (any)
    s  source length         k  width of a head          m  beams of one source
    t  target length         f  hidden of feed-forward   n  batch times beams
    d  width of the model    v  vocabulary
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Float, Int

if TYPE_CHECKING:  # it imports jax, which data/ does not need
    from flaxformer_lite.decoding_types import AnyArray


class Tokens(NamedTuple):
    """Rows of token ids. A row of one example has one segment; packed rows have several.

    Attributes:
      ids: token ids; those of padding are not read.
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
      target_in: decoder input: the target shifted right behind the begin token.
      labels: the tokens to predict at each position: the target closed by the end token.
      weights: weight of each label in the loss; 0 in padding.
    """

    source: Tokens
    target_in: Tokens
    labels: Int[AnyArray, "b t"]
    weights: Float[AnyArray, "b t"]


class SpecialIds(NamedTuple):
    """Ids of a vocabulary's special tokens.

    Attributes:
      pad: fills up rows.
      end: closes a text.
      begin: the first decoder input, which may be the same as ``pad`` or ``end``.
      unknown: represents text that has no id.
    """

    pad: int
    end: int
    begin: int
    unknown: int
