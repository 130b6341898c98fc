"""Feed-forward sublayers."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from flaxformer_lite.config.model_dataclasses import StackConfig
from flaxformer_lite.models.layers.dropout import Dropout
from flaxformer_lite.models.layers.initializers import kernel_init
from flaxformer_lite.models.layers.linear import Dense

_ACTIVATIONS = {
    "relu": nn.relu,
    "gelu": partial(nn.gelu, approximate=False),  # Hendrycks & Gimpel (2016)
    "gelu_tanh": nn.gelu,
    "silu": nn.silu,
}


class FeedForward(nn.Module):
    """Two linear maps with an activation between them (Vaswani et al. 2017, equation 2)."""

    config: StackConfig
    weight_init: str

    def setup(self):
        self.up = self._dense(self.config.mlp_dim, ("embed", "mlp"))
        self.down = self._dense(self.config.width, ("mlp", "embed"))
        self.drop = Dropout(self.config.feed_forward.dropout)

    def _dense(self, features: int, axes: tuple[str, str]) -> Dense:
        return Dense(features, axes, self.config.feed_forward.bias, kernel_init(self.weight_init))

    def activate(self, x: Float[Array, "*b f"]) -> Float[Array, "*b f"]:
        return _ACTIVATIONS[self.config.feed_forward.activation](x)

    def hidden(self, x: Float[Array, "*b d"]) -> Float[Array, "*b f"]:
        """The hidden units."""
        return self.activate(self.up(x))

    def __call__(self, x: Float[Array, "*b d"], train: bool) -> Float[Array, "*b d"]:
        return self.down(self.drop(self.hidden(x), train))


class GatedFeedForward(FeedForward):
    """Feed-forward sublayer with a gated linear unit (Shazeer 2020)."""

    def setup(self):
        super().setup()
        self.gate = self._dense(self.config.mlp_dim, ("embed", "mlp"))

    def hidden(self, x: Float[Array, "*b d"]) -> Float[Array, "*b f"]:
        return self.activate(self.gate(x)) * self.up(x)


def make_feed_forward(config: StackConfig, weight_init: str) -> nn.Module:
    """The feed-forward sublayer of a stack."""
    return (GatedFeedForward if config.feed_forward.gated else FeedForward)(config, weight_init)
