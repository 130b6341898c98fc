"""The model: word vectors, an encoder, a decoder, and the output layer, whatever the two halves are."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from flaxformer_lite.config import ModelConfig
from flaxformer_lite.models.interface import Encoded
from flaxformer_lite.models.layers import Dense, Embedding
from flaxformer_lite.models.recurrent_decoder import DECODERS
from flaxformer_lite.models.recurrent_encoder import RecurrentEncoder
from flaxformer_lite.models.scanned import ScannedDecoder, ScannedEncoder
from flaxformer_lite.models.transformer import TransformerDecoder, TransformerEncoder
from flaxformer_lite.types import Cache, Tokens


class EncoderDecoder(nn.Module):
    """Any encoder with any decoder; implements ``Seq2Seq``.

    Attributes:
      config: its sizes and kinds of parts.
      source_size: entries of the source vocabulary.
      target_size: entries of the target vocabulary.
      max_length: tokens that learned positions reach to.
      dtype: that it computes in, but for norms, softmax and logits, which are float32.
    """

    config: ModelConfig
    source_size: int
    target_size: int
    max_length: int
    dtype: DTypeLike = jnp.float32

    @property
    def reach(self) -> float:
        """The most tokens that a source or target may have: learned positions end somewhere, all else is endless."""
        learned = self.config.positions == "learned" and "transformer" in (self.config.encoder, self.config.decoder)
        return self.max_length if learned else float("inf")

    def setup(self):
        c = self.config
        self.target_embedding = Embedding(self.target_size, _embedding_width(c, c.decoder), dtype=self.dtype)
        if c.share_embeddings != "all":
            self.source_embedding = Embedding(self.source_size, _embedding_width(c, c.encoder), dtype=self.dtype)
        if c.share_embeddings == "none":
            self.output = Dense(self.target_size, ("embed", "vocab"), jnp.float32)
        self.encoder = _make_encoder(c, self.max_length)
        self.decoder = _make_decoder(c, self.max_length)

    def __call__(self, source: Tokens, target_in: Tokens, train: bool) -> Float[Array, "b t v"]:
        """Logits of the whole target: ``decode`` after ``encode``. Makes every parameter, so ``init`` calls it."""
        return self.decode(target_in, self.encode(source, train=train), train=train)

    def encode(self, source: Tokens, *, train: bool) -> Encoded:
        """Reads the sources once, up to all that the decoder needs of them."""
        embedding = self.target_embedding if self.config.share_embeddings == "all" else self.source_embedding
        return self.decoder.read(self.encoder(embedding(source.ids), source, train))

    def decode(self, target_in: Tokens, encoded: Encoded, *, train: bool) -> Float[Array, "b t v"]:
        """Logits of the token after each of ``target_in``, all places at once."""
        return self._logits(self.decoder(self.target_embedding(target_in.ids), target_in, encoded, train))

    def attention(self, target_in: Tokens, encoded: Encoded) -> Float[Array, "b t _"]:
        """How much of each place of the source is read to say the token after each of ``target_in``.

        Rows sum to 1; of a Transformer, the mean of the highest layer's heads. Without attention, of no width.
        """
        return self.decoder.attention(self.target_embedding(target_in.ids), target_in, encoded)

    def init_cache(self, encoded: Encoded, beams: int, max_length: int) -> Cache:
        """The state before the first token, for ``beams`` hypotheses a source of up to ``max_length`` tokens."""
        return self.decoder.init_cache(encoded, beams, max_length)

    def step(self, token: Int[Array, "b m"], cache: Any, encoded: Encoded) -> tuple[Float[Array, "b m v"], Any]:
        """Logits of the token after ``token``, and the state after reading it."""
        x, cache = self.decoder.step(self.target_embedding(token), cache, encoded)
        return self._logits(x), cache

    def _logits(self, x: Float[Array, "b t r"]) -> Float[Array, "b t v"]:
        return self.output(x) if self.config.share_embeddings == "none" else self.target_embedding.logits(x)


def _embedding_width(config: ModelConfig, half: str) -> int:
    return (config.rnn.embedding_width if half == "rnn" else 0) or config.width


def _make_encoder(config: ModelConfig, max_length: int) -> nn.Module:
    if config.encoder == "rnn":
        return RecurrentEncoder(config)
    return (ScannedEncoder if config.scan_layers else TransformerEncoder)(config, max_length)


def _make_decoder(config: ModelConfig, max_length: int) -> nn.Module:
    if config.decoder == "rnn":
        return DECODERS[config.rnn.design](config)
    directions = 2 if config.encoder == "rnn" and config.rnn.direction == "both" else 1
    return (ScannedDecoder if config.scan_layers else TransformerDecoder)(config, directions * config.width, max_length)
