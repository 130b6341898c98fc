"""Configuration keys of models, ``config.model``, with their types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from flaxformer_lite.config.value_types import (
    Bounds,
    ImportPath,
    NonNegativeFloat,
    NonNegativeInt,
    Options,
    PositiveInt,
    Rate,
)


@dataclass(frozen=True)
class PositionsConfig:
    """Position information of a Transformer stack."""

    kind: Literal["sinusoidal", "sinusoidal_concat", "sinusoidal_fairseq", "learned", "relative_bias", "rotary", "none"]
    per_layer: bool
    max_length: NonNegativeInt
    offset: NonNegativeInt
    scale: bool
    num_buckets: Annotated[PositiveInt, Bounds(at_least=4)]
    max_distance: Annotated[PositiveInt, Bounds(at_least=2)]
    theta: Annotated[float, Bounds(at_least=1)]


@dataclass(frozen=True)
class NormConfig:
    """Normalization in a Transformer stack."""

    placement: Literal["pre", "post", "sandwich"]
    kind: Literal["layer", "rms"]
    unit_offset: bool
    epsilon: NonNegativeFloat
    embeddings: bool
    final: Literal["unless_post", "always", "never"]


@dataclass(frozen=True)
class AttentionConfig:
    """Attention sublayers of a Transformer stack."""

    bias: bool
    query_pre_attn_scalar: NonNegativeFloat
    soft_cap: NonNegativeFloat
    sliding_window: NonNegativeInt
    layer_pattern: tuple[Literal["global", "local"], ...]
    dropout: Rate


@dataclass(frozen=True)
class FeedForwardConfig:
    """Feed-forward sublayers of a Transformer stack."""

    activation: Literal["relu", "gelu", "gelu_tanh", "silu"]
    gated: bool
    bias: bool
    dropout: Rate


@dataclass(frozen=True)
class RnnConfig:
    """Settings of a recurrent stack; ``direction`` belongs to encoders, ``design`` to ``readout_dim`` to decoders."""

    cell: Literal["elman", "lstm", "gru", "gru2014"]
    direction: Literal["forward", "backward", "both"]
    design: Literal["sutskever", "cho", "bahdanau", "luong"]
    attention: Literal["additive", "concat", "dot", "general"]
    input_feeding: bool
    bridge: Literal["copy", "dense"]
    embedding_dim: NonNegativeInt
    attention_dim: NonNegativeInt
    readout_dim: NonNegativeInt
    residual_from: NonNegativeInt
    variational_dropout: bool


@dataclass(frozen=True)
class StackConfig:
    """An encoder or a decoder: a Transformer (Vaswani et al. 2017), a recurrent network or a user-defined module."""

    kind: Literal["transformer", "rnn"] | ImportPath
    options: Options
    width: PositiveInt
    num_layers: PositiveInt
    num_heads: PositiveInt
    num_kv_heads: NonNegativeInt
    head_dim: NonNegativeInt
    mlp_dim: PositiveInt
    dropout: Rate
    final_dropout: Rate
    layerdrop: Rate
    positions: PositionsConfig
    norm: NormConfig
    attention: AttentionConfig
    feed_forward: FeedForwardConfig
    rnn: RnnConfig

    @property
    def kv_heads(self) -> int:
        """Number of key and value heads, each of which a group of query heads shares (Ainslie et al. 2023)."""
        return self.num_kv_heads or self.num_heads

    @property
    def head_size(self) -> int:
        """Width of each head."""
        return self.head_dim or self.width // self.num_heads

    @property
    def embedding_dim(self) -> int:
        """Width of the token embeddings that the stack reads."""
        return (self.rnn.embedding_dim if self.kind == "rnn" else 0) or self.width

    @property
    def output_dim(self) -> int:
        """Width of an encoder's states."""
        return self.width * (2 if self.kind == "rnn" and self.rnn.direction == "both" else 1)

    @property
    def readout_dim(self) -> int:
        """Width of a recurrent decoder's output."""
        return self.rnn.readout_dim or self.width


@dataclass(frozen=True)
class LmHeadConfig:
    """The projection of decoder outputs to logits."""

    bias: Literal["untied", "always", "never"]
    scale: bool
    soft_cap: NonNegativeFloat


@dataclass(frozen=True)
class ModelConfig:
    """An encoder-decoder: two stacks, embeddings and the projection to logits."""

    encoder: StackConfig
    decoder: StackConfig
    share_embeddings: Literal["all", "inputs", "target", "none"]
    scale_embeddings: bool
    vocab_pad_multiple: PositiveInt
    lm_head: LmHeadConfig
    init: Literal["glorot", "fan_in", "normal_0.02"]
    remat: Literal["none", "full", "dots", "dots_with_no_batch_dims"]
    scan_layers: bool
