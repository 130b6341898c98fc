"""The sizes of the two halves of a Transformer, which may differ in all of them."""

from __future__ import annotations

from dataclasses import dataclass

from flaxformer_lite.config.dataclasses import ModelConfig


@dataclass(frozen=True)
class Half:
    """The sizes of one half.

    Attributes:
      width: of what goes from layer to layer.
      num_heads: of each attention's queries.
      num_key_heads: of its keys and values, each of which a group of heads shares (Ainslie et al. 2023).
      head_width: of each head's queries, keys and values.
      mlp_width: hidden units of a feed-forward sublayer.
      num_layers: how many there are.
      causal: whether a place sees itself and those before it, or all.
    """

    width: int
    num_heads: int
    num_key_heads: int
    head_width: int
    mlp_width: int
    num_layers: int
    causal: bool


def encoder_half(c: ModelConfig) -> Half:
    """The half that reads."""
    head_width = c.head_width or c.width // c.num_heads
    return Half(c.width, c.num_heads, c.num_key_heads, head_width, c.mlp_width, c.num_layers, causal=False)


def decoder_half(c: ModelConfig) -> Half:
    """The half that writes."""
    return Half(
        width=c.decoder_width,
        num_heads=c.num_decoder_heads,
        num_key_heads=c.num_decoder_key_heads,
        head_width=c.decoder_head_width or c.decoder_width // c.num_decoder_heads,
        mlp_width=c.decoder_mlp_width,
        num_layers=c.num_decoder_layers,
        causal=True,
    )
