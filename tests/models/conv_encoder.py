"""A user-defined encoder, as ``model.encoder.kind`` names it."""

import flax.linen as nn
import jax.numpy as jnp

from flaxformer_lite.config.model_dataclasses import StackConfig
from flaxformer_lite.models.interface import EncoderOutput
from flaxformer_lite.models.layers.dropout import Dropout
from flaxformer_lite.types import Tokens


class ConvEncoder(nn.Module):
    """Residual convolutions with an odd ``kernel_size``."""

    config: StackConfig
    kernel_size: int = 3

    @nn.compact
    def __call__(self, x, source: Tokens, train: bool) -> EncoderOutput:
        inside = jnp.asarray(source.segments != 0)[..., None]
        for _ in range(self.config.num_layers):
            y = nn.Conv(self.config.width, (self.kernel_size,))(jnp.where(inside, x, 0))
            x = x + Dropout(self.config.dropout)(nn.tanh(y), train)
        mean = jnp.where(inside, x, 0).sum(1) / jnp.maximum(inside.sum(1), 1)
        return EncoderOutput(x, source.segments, ((mean,),))
