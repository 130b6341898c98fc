"""The interface of models, and of the encoders and decoders that they consist of."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int

from flaxformer_lite.decoding_types import AnyArray, Cache
from flaxformer_lite.types import Tokens

Encoded = Any  # a pytree that belongs to the sources: leaves lead with [b]; only the decoder that made it reads it


class Seq2Seq(Protocol):
    """An encoder-decoder. ``decode`` takes whole targets, ``step`` one token per call; their logits agree."""

    def encode(self, source: Tokens, *, train: bool) -> Encoded:
        """Everything that depends on the sources alone; it is never copied per hypothesis."""
        ...

    def decode(self, target_in: Tokens, encoded: Encoded, *, train: bool) -> Float[Array, "b t v"]:
        """Logits of the token after each of ``target_in`` (teacher forcing)."""
        ...

    def attention(self, target_in: Tokens, encoded: Encoded) -> Float[Array, "b t _"]:
        """Attention weights over the source for the token after each of ``target_in``; width 0 without attention."""
        ...

    def init_cache(self, encoded: Encoded, beams: int, max_length: int) -> Cache:
        """The cache before the first token, for ``beams`` hypotheses per source of up to ``max_length`` tokens."""
        ...

    def step(self, token: Int[Array, "b m"], cache: Any, encoded: Encoded) -> tuple[Float[Array, "b m v"], Any]:
        """Logits of the token after ``token``, and the cache after reading it."""
        ...


class EncoderOutput(NamedTuple):
    """The output of any encoder, as any decoder reads it.

    Attributes:
      states: of each position of the sources.
      segments: of the source tokens.
      summaries: vectors of each source as a whole, one tuple per layer, lowest first: a recurrent layer's last state,
        which has several arrays; of a Transformer one for all layers.
    """

    states: Float[Array, "b s e"]
    segments: Int[AnyArray, "b s"]
    summaries: tuple[tuple[Float[Array, "b _"], ...], ...]


class Encoder(Protocol):
    """An encoder: token embeddings to states."""

    def __call__(self, x: Float[Array, "b s d"], source: Tokens, train: bool) -> EncoderOutput:
        """Encodes the embeddings x of the tokens ``source``. States have ``config.width`` columns."""
        ...


@runtime_checkable
class TrainableDecoder(Protocol):
    """A decoder that can be trained: token embeddings to the vectors that the lm head projects to logits."""

    def project_source(self, encoder_output: EncoderOutput) -> Encoded:
        """Everything that depends on the sources alone, such as keys and values of cross-attention."""
        ...

    def __call__(
        self, x: Float[Array, "b t d"], target_in: Tokens, encoded: Encoded, train: bool
    ) -> Float[Array, "b t r"]:
        """Outputs for whole targets; x are the embeddings of the tokens ``target_in``."""
        ...


@runtime_checkable
class SearchableDecoder(TrainableDecoder, Protocol):
    """A decoder that can also decode step by step; see ``Seq2Seq`` for the three methods."""

    def attention(self, x: Float[Array, "b t d"], target_in: Tokens, encoded: Encoded) -> Float[Array, "b t _"]:
        """Attention weights over the source."""
        ...

    def init_cache(self, encoded: Encoded, beams: int, max_length: int) -> Cache:
        """The cache before the first token."""
        ...

    def step(self, x: Float[Array, "b m d"], cache: Any, encoded: Encoded) -> tuple[Float[Array, "b m r"], Any]:
        """The next position of each hypothesis; x are the embeddings of its tokens."""
        ...
