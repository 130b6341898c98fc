"""The model: word vectors, an encoder, a decoder, and the output layer, whatever the two halves are."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.models import initial
from flaxformer_lite.models.interface import Encoded
from flaxformer_lite.models.layers import Embedding
from flaxformer_lite.models.output import make_output
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
        self.target_embedding = self._embedding(self.target_size, _embedding_width(c, c.decoder, c.decoder_width))
        if c.share_embeddings in ("target", "none"):
            self.source_embedding = self._embedding(self.source_size, _embedding_width(c, c.encoder, c.width))
        self.output = make_output(c, self.target_size)
        self.encoder = _make_encoder(c, self.max_length)
        self.decoder = _make_decoder(c, self.max_length)

    def __call__(self, source: Tokens, target_in: Tokens, train: bool) -> Float[Array, "b t v"]:
        """Logits of the whole target: ``decode`` after ``encode``. Makes every parameter, so ``init`` calls it."""
        return self.decode(target_in, self.encode(source, train=train), train=train)

    def encode(self, source: Tokens, *, train: bool) -> Encoded:
        """Reads the sources once, up to all that the decoder needs of them."""
        shared = self.config.share_embeddings in ("all", "inputs")
        embedding = self.target_embedding if shared else self.source_embedding
        return self.decoder.read(self.encoder(embedding(source.ids), source, train))

    def decode(self, target_in: Tokens, encoded: Encoded, *, train: bool) -> Float[Array, "b t v"]:
        """Logits of the token after each of ``target_in``, all places at once."""
        x = self.decoder(self.target_embedding(target_in.ids), target_in, encoded, train)
        return self.output(x, self.target_embedding)

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
        return self.output(x, self.target_embedding), cache

    def _embedding(self, size: int, width: int) -> Embedding:
        c = self.config
        rows = -(-size // c.embeddings.multiple) * c.embeddings.multiple
        scaled, deviation = c.embeddings.scale, initial.deviation(c)
        return Embedding(rows, width, dtype=self.dtype, scaled=scaled, deviation=deviation)


def _embedding_width(config: ModelConfig, kind: str, width: int) -> int:
    return (config.rnn.embedding_width if kind == "rnn" else 0) or width


def _make_encoder(config: ModelConfig, max_length: int) -> nn.Module:
    if config.encoder == "rnn":
        return RecurrentEncoder(config)
    return (ScannedEncoder if config.scan_layers else TransformerEncoder)(config, max_length)


def _make_decoder(config: ModelConfig, max_length: int) -> nn.Module:
    if config.decoder == "rnn":
        return DECODERS[config.rnn.design](config)
    directions = 2 if config.encoder == "rnn" and config.rnn.direction == "both" else 1
    return (ScannedDecoder if config.scan_layers else TransformerDecoder)(config, max_length, directions * config.width)
