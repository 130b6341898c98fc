"""The methods at which every model, step and search meet, and the two halves that a model is made of."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from jaxtyping import Array, Float, Int

from flaxformer_lite.types import AnyArray, Cache, Tokens

Encoded = Any  # a pytree that belongs to the sources: leaves lead with [b]; only the decoder that made it looks inside


class Seq2Seq(Protocol):
    """An encoder-decoder. ``decode`` reads a whole target at once, ``step`` one token a call; they agree."""

    def encode(self, source: Tokens, *, train: bool) -> Encoded:
        """Reads the sources once, with all that depends on them alone. Never copied per hypothesis."""
        ...

    def decode(self, target_in: Tokens, encoded: Encoded, *, train: bool) -> Float[Array, "b t v"]:
        """Logits of the token after each of ``target_in``, all places at once (teacher forcing)."""
        ...

    def attention(self, target_in: Tokens, encoded: Encoded) -> Float[Array, "b t _"]:
        """How much of each place of the source is read to say the token after each of ``target_in``."""
        ...

    def init_cache(self, encoded: Encoded, beams: int, max_length: int) -> Cache:
        """The state before the first token, for ``beams`` hypotheses a source of up to ``max_length`` tokens."""
        ...

    def step(self, token: Int[Array, "b m"], cache: Any, encoded: Encoded) -> tuple[Float[Array, "b m v"], Any]:
        """Logits of the token after ``token``, and the state after reading it."""
        ...


class Memory(NamedTuple):
    """What an encoder, of whatever kind, tells a decoder, of whatever kind.

    Attributes:
      states: of each place of the sources.
      segments: of the source tokens.
      summaries: of each source as a whole, one a layer, lowest first: a recurrent layer's last state, a tuple; of a
        Transformer, one for all layers.
    """

    states: Float[Array, "b s e"]
    segments: Int[AnyArray, "b s"]
    summaries: tuple[tuple[Float[Array, "b _"], ...], ...]


class Encoder(Protocol):
    """The half that reads sources."""

    def __call__(self, x: Float[Array, "b s d"], source: Tokens, train: bool) -> Memory:
        """Reads word vectors x of the tokens ``source``."""
        ...


class Decoder(Protocol):
    """The half that writes targets. Word vectors come in, what the output layer compares with words goes out."""

    def read(self, memory: Memory) -> Encoded:
        """All that depends on the sources alone."""
        ...

    def __call__(
        self, x: Float[Array, "b t d"], target_in: Tokens, encoded: Encoded, train: bool
    ) -> Float[Array, "b t r"]:
        """All places of the targets."""
        ...

    def attention(self, x: Float[Array, "b t d"], target_in: Tokens, encoded: Encoded) -> Float[Array, "b t _"]:
        """How much of each place of the source every place of the targets reads; of no width without attention."""
        ...

    def init_cache(self, encoded: Encoded, beams: int, max_length: int) -> Cache:
        """The state before the first token."""
        ...

    def step(self, x: Float[Array, "b m d"], cache: Any, encoded: Encoded) -> tuple[Float[Array, "b m r"], Any]:
        """The next place of each hypothesis."""
        ...
