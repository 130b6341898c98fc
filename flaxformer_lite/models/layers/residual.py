"""Residual connections by placement of the norm: ``x = post(x, sublayer(pre(x)))``, with dropout of the sublayer."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from flaxformer_lite.config.model_dataclasses import StackConfig
from flaxformer_lite.models.layers.dropout import Dropout
from flaxformer_lite.models.layers.linear import constrain_activations
from flaxformer_lite.models.layers.norm import make_norm


class PreNorm(nn.Module):
    """``x + sublayer(norm(x))``, which trains without a long warm-up (Xiong et al. 2020)."""

    config: StackConfig

    def setup(self):
        self.norm = make_norm(self.config.norm)
        self.drop = Dropout(self.config.dropout)

    def pre(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """The input of the sublayer."""
        return constrain_activations(self.norm(constrain_activations(x)))

    def post(self, x: Float[Array, "*b d"], y: Float[Array, "*b d"], train: bool) -> Float[Array, "*b d"]:
        """The result, from the input x and the output y of the sublayer."""
        return constrain_activations(x + self.drop(constrain_activations(y), train))


class PostNorm(PreNorm):
    """``norm(x + sublayer(x))``, as published by Vaswani et al. (2017)."""

    def pre(self, x):
        return constrain_activations(x)

    def post(self, x, y, train):
        return self.norm(super().post(x, y, train))


class SandwichNorm(PreNorm):
    """``x + norm'(sublayer(norm(x)))`` (Gemma 2, 2024, section 2)."""

    def setup(self):
        super().setup()
        self.norm_within = make_norm(self.config.norm)

    def post(self, x, y, train):
        return super().post(x, self.norm_within(constrain_activations(y)), train)


_PLACEMENTS = {"pre": PreNorm, "post": PostNorm, "sandwich": SandwichNorm}


def make_residual(config: StackConfig) -> nn.Module:
    """The residual connection around a sublayer."""
    return _PLACEMENTS[config.norm.placement](config)
