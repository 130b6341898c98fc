"""The model: embeddings, an encoder, a decoder and the projection to logits, whatever the two stacks are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from flaxformer_lite.config import import_path
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.config.model_dataclasses import ModelConfig, StackConfig
from flaxformer_lite.decoding_types import Cache
from flaxformer_lite.errors import InputError
from flaxformer_lite.models.interface import Encoded, EncoderOutput, SearchableDecoder
from flaxformer_lite.models.layers.embedding import Embedding
from flaxformer_lite.models.layers.initializers import embedding_stddev
from flaxformer_lite.models.layers.lm_head import make_lm_head
from flaxformer_lite.models.rnn.decoder import RNN_DECODERS
from flaxformer_lite.models.rnn.encoder import RnnEncoder
from flaxformer_lite.models.transformer.scan import ScannedDecoder, ScannedEncoder
from flaxformer_lite.models.transformer.stack import TransformerDecoder, TransformerEncoder
from flaxformer_lite.types import Tokens


def make_model(config: Config, source_size: int, target_size: int) -> EncoderDecoder:
    """The model of a config for vocabularies of these sizes."""
    max_length = max(config.data.max_source_length, config.data.max_target_length)
    return EncoderDecoder(config.model, source_size, target_size, max_length, config.precision.dtype)


def make_decoding_model(config: Config, source_size: int, target_size: int) -> EncoderDecoder:
    """The same model with separate layers, which decoding needs however the model was trained."""
    model = dataclasses.replace(config.model, scan_layers=False)
    return make_model(dataclasses.replace(config, model=model), source_size, target_size)


class EncoderDecoder(nn.Module):
    """Any encoder with any decoder; implements ``Seq2Seq``.

    Attributes:
      source_size, target_size: number of entries of each vocabulary.
      max_length: number of learned positions of stacks whose ``positions.max_length`` is 0.
      dtype: that layers compute in, except for norms, softmax and logits, which are float32.
    """

    config: ModelConfig
    source_size: int
    target_size: int
    max_length: int
    dtype: DTypeLike = jnp.float32

    @property
    def max_supported_length(self) -> float:
        """The most tokens that a source or target may have; infinite without learned positions."""
        stacks = self.config.encoder, self.config.decoder
        learned = [stack for stack in stacks if stack.kind != "rnn" and stack.positions.kind == "learned"]
        return min((self._max_length(stack) for stack in learned), default=float("inf"))

    def setup(self):
        c = self.config
        self.target_embedding = self._embedding(self.target_size, c.decoder.embedding_dim)
        if c.share_embeddings in ("target", "none"):
            self.source_embedding = self._embedding(self.source_size, c.encoder.embedding_dim)
        self.output = make_lm_head(c, self.target_size)
        encoders = {"transformer": ScannedEncoder if c.scan_layers else TransformerEncoder, "rnn": RnnEncoder}
        self.encoder = self._stack("encoder", c.encoder, encoders)
        transformer = ScannedDecoder if c.scan_layers else TransformerDecoder
        decoders = {"transformer": transformer, "rnn": RNN_DECODERS[c.decoder.rnn.design]}
        self.decoder = self._stack("decoder", c.decoder, decoders)

    def __call__(self, source: Tokens, target_in: Tokens, train: bool) -> Float[Array, "b t v"]:
        """Logits of whole targets: ``decode`` after ``encode``. Uses every parameter, so ``init`` calls it."""
        return self.decode(target_in, self.encode(source, train=train), train=train)

    def encode(self, source: Tokens, *, train: bool) -> Encoded:
        return self.decoder.project_source(self.encoder_output(source, train=train))

    def encoder_output(self, source: Tokens, *, train: bool) -> EncoderOutput:
        """The encoder's states of the sources."""
        shared = self.config.share_embeddings in ("all", "inputs")
        embedding = self.target_embedding if shared else self.source_embedding
        return self.encoder(embedding(source.ids), source, train)

    def decode(self, target_in: Tokens, encoded: Encoded, *, train: bool) -> Float[Array, "b t v"]:
        x = self.decoder(self.target_embedding(target_in.ids), target_in, encoded, train)
        return self.output(x, self.target_embedding)

    def attention(self, target_in: Tokens, encoded: Encoded) -> Float[Array, "b t _"]:
        """Attention weights over the source for the token after each of ``target_in``.

        Rows sum to 1; of a Transformer they are the mean of the top layer's heads. Without attention the width is 0.
        """
        return self._searchable().attention(self.target_embedding(target_in.ids), target_in, encoded)

    def init_cache(self, encoded: Encoded, beams: int, max_length: int) -> Cache:
        return self._searchable().init_cache(encoded, beams, max_length)

    def step(self, token: Int[Array, "b m"], cache: Any, encoded: Encoded) -> tuple[Float[Array, "b m v"], Any]:
        x, cache = self._searchable().step(self.target_embedding(token), cache, encoded)
        return self.output(x, self.target_embedding), cache

    def _searchable(self) -> SearchableDecoder:
        if isinstance(self.decoder, SearchableDecoder):
            return self.decoder
        if isinstance(self.decoder, ScannedDecoder):
            raise InputError(
                "config.model.scan_layers=True",
                "a scanned decoder can be trained but not searched",
                "use make_decoding_model, and unstack_layers for its parameters",
            )
        raise InputError(
            f"config.model.decoder.kind={self.config.decoder.kind!r}",
            "can be trained but not searched",
            "implement the methods attention, init_cache and step of SearchableDecoder",
        )

    def _embedding(self, size: int, width: int) -> Embedding:
        c = self.config
        rows = -(-size // c.vocab_pad_multiple) * c.vocab_pad_multiple
        stddev = embedding_stddev(c.init)
        return Embedding(rows, width, dtype=self.dtype, scaled=c.scale_embeddings, stddev=stddev)

    def _stack(self, side: str, stack: StackConfig, kinds: Mapping[str, Any]) -> Any:
        """The encoder or decoder of a config; a user-defined one declares the fields that it needs of these."""
        provided = {
            "config": stack,
            "max_length": self._max_length(stack),
            "weight_init": self.config.init,
            "remat": self.config.remat,
            "encoder_dim": self.config.encoder.output_dim,
        }
        if stack.kind not in kinds:
            return import_path.build(stack.kind, stack.options, f"model.{side}.kind", **provided)
        fields = {field.name for field in dataclasses.fields(kinds[stack.kind])}
        return kinds[stack.kind](**{name: value for name, value in provided.items() if name in fields})

    def _max_length(self, stack: StackConfig) -> int:
        return stack.positions.max_length or self.max_length
