"""The sublayer that works on each place by itself."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.models import initial
from flaxformer_lite.models.halves import Half
from flaxformer_lite.models.layers import Dense, Dropout

_ACTIVATIONS = {
    "relu": nn.relu,
    "gelu": partial(nn.gelu, approximate=False),  # Hendrycks & Gimpel (2016)
    "gelu_tanh": nn.gelu,  # and their approximation
    "silu": nn.silu,
}


class FeedForward(nn.Module):
    """Two linear maps with an activation between them, the same at each position (Vaswani et al. 2017, equation 2)."""

    config: ModelConfig
    half: Half

    def setup(self):
        c = self.config.feed_forward
        dense = partial(Dense, bias=c.bias, kernel=initial.kernel(self.config))
        self.up = dense(self.half.mlp_width, ("embed", "mlp"))
        self.down = dense(self.half.width, ("mlp", "embed"))
        self.drop = Dropout(c.dropout)

    def hidden(self, x: Float[Array, "*b d"]) -> Float[Array, "*b f"]:
        """What the second map reads."""
        return _ACTIVATIONS[self.config.feed_forward.activation](self.up(x))

    def __call__(self, x: Float[Array, "*b d"], train: bool) -> Float[Array, "*b d"]:
        return self.down(self.drop(self.hidden(x), train))


class GatedFeedForward(FeedForward):
    """The same whose hidden units are a product of two, of which one is activated (Shazeer 2020)."""

    def setup(self):
        super().setup()
        c = self.config.feed_forward
        self.gate = Dense(self.half.mlp_width, ("embed", "mlp"), bias=c.bias, kernel=initial.kernel(self.config))

    def hidden(self, x: Float[Array, "*b d"]) -> Float[Array, "*b f"]:
        """What the last map reads."""
        return _ACTIVATIONS[self.config.feed_forward.activation](self.gate(x)) * self.up(x)


def make_feed_forward(config: ModelConfig, half: Half) -> nn.Module:
    """The kind that ``model.feed_forward`` describes."""
    return (GatedFeedForward if config.feed_forward.gated else FeedForward)(config, half)
