"""What new weights are drawn from, as ``model.init`` says; biases begin as zeros, and norms change nothing."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn

from flaxformer_lite.config.dataclasses import ModelConfig

_SMALL = 0.02  # standard deviation; that of BERT, GPT-2 and BART
Axes = int | Sequence[int]


def kernel(config: ModelConfig, ins: Axes = -2, outs: Axes = -1, factor: float = 1.0) -> nn.initializers.Initializer:
    """Of a matrix.

    ``glorot``: Glorot & Bengio (2010). ``fan_in``: normal, of variance 1 / (width of what is read), as T5's are (Raffel
    et al. 2020 and its code). ``small``: normal, of one deviation for all.

    Args:
      config: of the model.
      ins: axes that are summed over.
      outs: axes of the result.
      factor: to the standard deviation.
    """
    if config.init == "small":
        return nn.initializers.normal(_SMALL * factor)
    if config.init == "fan_in":
        return nn.initializers.variance_scaling(factor**2, "fan_in", "normal", in_axis=ins, out_axis=outs)
    return nn.initializers.variance_scaling(factor**2, "fan_avg", "uniform", in_axis=ins, out_axis=outs)


def deviation(config: ModelConfig) -> float:
    """The standard deviation of a table's elements; 0: such that what is read has 1."""
    return _SMALL if config.init == "small" else 0.0
