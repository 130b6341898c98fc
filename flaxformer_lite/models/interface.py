"""The four methods at which every model, step and search meet."""

from __future__ import annotations

from typing import Any, Protocol

from jaxtyping import Array, Float, Int

from flaxformer_lite.types import Cache, Tokens

Encoded = Any  # a pytree that belongs to the sources: leaves lead with [b]; only the model that made it looks inside


class Seq2Seq(Protocol):
    """An encoder-decoder. ``decode`` reads a whole target at once, ``step`` one token a call; they agree."""

    def encode(self, source: Tokens, *, train: bool) -> Encoded:
        """Reads the sources once, with all that depends on them alone. Never copied per hypothesis."""
        ...

    def decode(self, target_in: Tokens, encoded: Encoded, *, train: bool) -> Float[Array, "b t v"]:
        """Logits of the token after each of ``target_in``, all places at once (teacher forcing)."""
        ...

    def init_cache(self, encoded: Encoded, beams: int, max_length: int) -> Cache:
        """The state before the first token, for ``beams`` hypotheses a source of up to ``max_length`` tokens."""
        ...

    def step(self, token: Int[Array, "b m"], cache: Any, encoded: Encoded) -> tuple[Float[Array, "b m v"], Any]:
        """Logits of the token after ``token``, and the state after reading it."""
        ...
