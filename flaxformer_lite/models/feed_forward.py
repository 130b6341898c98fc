"""The sublayer that works on each place by itself."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from flaxformer_lite.config import ModelConfig
from flaxformer_lite.models.halves import Half
from flaxformer_lite.models.layers import Dense, Dropout


class FeedForward(nn.Module):
    """Two linear maps with a ReLU between them, the same at each position (Vaswani et al. 2017, equation 2)."""

    config: ModelConfig
    half: Half

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"], train: bool) -> Float[Array, "*b d"]:
        y = nn.relu(Dense(self.half.mlp_width, ("embed", "mlp"), name="up")(x))
        y = Dropout(self.config.dropout)(y, train)
        return Dense(self.half.width, ("mlp", "embed"), name="down")(y)
