"""Where the norm of a sublayer stands: ``x = add(x, sublayer(enter(x)))``. Dropout falls on the sublayer's output."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.models.layers import Dropout, placed
from flaxformer_lite.models.norms import make_norm


class _Residual(nn.Module):
    """What all have in common: a norm, and dropout."""

    config: ModelConfig

    def setup(self):
        self.norm = make_norm(self.config)
        self.drop = Dropout(self.config.dropout)

    def enter(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """What the sublayer reads."""
        raise NotImplementedError

    def add(self, x: Float[Array, "*b d"], y: Float[Array, "*b d"], train: bool) -> Float[Array, "*b d"]:
        """The sum of the sublayer's input and its output y."""
        raise NotImplementedError


class NormBefore(_Residual):
    """``x + sublayer(norm(x))``, whose gradients need no long warm-up (Xiong et al. 2020)."""

    def enter(self, x):
        """What the sublayer reads."""
        return placed(self.norm(placed(x)))

    def add(self, x, y, train):
        """The sum of the sublayer's input and its output y."""
        return placed(x + self.drop(placed(y), train))


class NormAfter(_Residual):
    """``norm(x + sublayer(x))``, as published by Vaswani et al. (2017)."""

    def enter(self, x):
        """What the sublayer reads."""
        return placed(x)

    def add(self, x, y, train):
        """The sum of the sublayer's input and its output y, normalised."""
        return self.norm(placed(x + self.drop(placed(y), train)))


class NormAround(NormBefore):
    """``x + norm'(sublayer(norm(x)))``: what is added is of one scale too (Gemma 2, 2024, section 2)."""

    def setup(self):
        super().setup()
        self.norm_within = make_norm(self.config)

    def add(self, x, y, train):
        """The sum of the sublayer's input and its output y, which is normalised by itself."""
        return super().add(x, self.norm_within(placed(y)), train)


_KINDS = {"before": NormBefore, "after": NormAfter, "around": NormAround}


def make_residual(config: ModelConfig) -> nn.Module:
    """What leads into a sublayer and adds what comes out of it."""
    return _KINDS[config.norm](config)
