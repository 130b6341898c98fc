"""Initializers of weights by name (``model.init``); biases are initialized to zeros, gains of norms to ones."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn

_STDDEV = 0.02  # that of BERT, GPT-2 and BART
Axes = int | Sequence[int]


def kernel_init(name: str, in_axis: Axes = -2, out_axis: Axes = -1, factor: float = 1.0) -> nn.initializers.Initializer:
    """The initializer of a kernel.

    ``glorot``: Glorot & Bengio (2010). ``fan_in``: normal with variance 1 / (input width), as in T5 (Raffel et al. 2020
    and its code). ``normal_0.02``: normal with standard deviation 0.02. ``factor`` multiplies the standard deviation.
    """
    if name == "normal_0.02":
        return nn.initializers.normal(_STDDEV * factor)
    mode, distribution = ("fan_in", "normal") if name == "fan_in" else ("fan_avg", "uniform")
    return nn.initializers.variance_scaling(factor**2, mode, distribution, in_axis=in_axis, out_axis=out_axis)


def embedding_stddev(name: str) -> float:
    """The standard deviation of an embedding table's elements; 0: such that lookups have 1."""
    return _STDDEV if name == "normal_0.02" else 0.0
