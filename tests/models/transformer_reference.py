"""Encoder and decoder of attention in plain NumPy, float64: one sentence at a time, so without padding."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from flaxformer_lite.config.model_dataclasses import StackConfig

Parts = Mapping[str, Any]


def encode(p: Parts, config: StackConfig, x: np.ndarray) -> np.ndarray:
    return stack(p, config, x, causal=False, states=None)


def decode(p: Parts, config: StackConfig, x: np.ndarray, states: np.ndarray) -> np.ndarray:
    return stack(p, config, x, causal=True, states=states)


def stack(p: Parts, config: StackConfig, x: np.ndarray, causal: bool, states: np.ndarray | None) -> np.ndarray:
    x = x + positions(p, config, len(x), x.shape[1])
    x = norm(p["norm_embeddings"], config, x) if config.norm.embeddings else x
    for number in range(config.num_layers):
        own = p[f"layers_{number}"]
        kind = config.attention.layer_pattern[number % len(config.attention.layer_pattern)]
        context = Context(config, causal, kind == "local", own.get("positions", p.get("positions")))
        x = layer(own, context, x, states)
    after = {"always": True, "never": False, "unless_post": config.norm.placement != "post"}[config.norm.final]
    return norm(p["norm"], config, x) if after else x


class Context(NamedTuple):
    """What self-attention depends on beside the vectors."""

    config: StackConfig
    causal: bool
    windowed: bool
    positions: Any  # parameters of relative bias

    def may_attend(self, query: int, key: int) -> bool:
        if self.causal and key > query:
            return False
        far = abs(query - key) - (0 if self.causal else 1)  # T5Gemma's windows
        return not self.windowed or far < self.config.attention.sliding_window

    def bias(self, head: int, query: int, key: int) -> float:
        if self.config.positions.kind != "relative_bias":
            return 0.0
        return self.positions["table"][self.bucket(key - query), head]

    def bucket(self, distance: int) -> int:
        """T5's: exact up to half of the buckets, then by logarithm; after the query there are as many again."""
        buckets = self.config.positions.num_buckets
        count = buckets if self.causal else buckets // 2
        first = count if distance > 0 and not self.causal else 0
        distance, exact = abs(distance), count // 2
        if distance < exact:
            return first + distance
        share = np.log(distance / exact) / np.log(self.config.positions.max_distance / exact)
        return first + min(exact + int(share * (count - exact) + 1e-6), count - 1)

    def rotate(self, x: np.ndarray, position: int) -> np.ndarray:
        """Su et al. (2021), section 3.2.2, in complex numbers: each pair times e to the i · position · rate."""
        if self.config.positions.kind != "rotary":
            return x
        half = len(x) // 2
        rates = self.config.positions.theta ** (-np.arange(half) / half)
        pairs = (x[:half] + 1j * x[half:]) * np.exp(1j * position * rates)
        return np.concatenate([pairs.real, pairs.imag])


def layer(p: Parts, context: Context, x: np.ndarray, states: np.ndarray | None) -> np.ndarray:
    config = context.config
    x = sublayer(p["self_attention_residual"], config, x, lambda y: attention(p["self_attention"], y, y, context))
    if states is not None:
        plain = Context(
            dataclasses.replace(config, positions=dataclasses.replace(config.positions, kind="none")),
            False,
            False,
            None,
        )
        x = sublayer(
            p["cross_attention_residual"], config, x, lambda y: attention(p["cross_attention"], y, states, plain)
        )
    return sublayer(p["feed_forward_residual"], config, x, lambda y: feed_forward(p["feed_forward"], config, y))


def sublayer(p: Parts, config: StackConfig, x: np.ndarray, function: Any) -> np.ndarray:
    if config.norm.placement == "post":
        return norm(p["norm"], config, x + function(x))
    y = function(norm(p["norm"], config, x))
    return x + (norm(p["norm_within"], config, y) if config.norm.placement == "sandwich" else y)


def attention(p: Parts, x: np.ndarray, attended: np.ndarray, context: Context) -> np.ndarray:
    """Vaswani et al. (2017), section 3.2.2: for each position the concatenated heads, times W^O."""
    positions_out = []
    for i in range(len(x)):
        heads = [head(p, h, x, i, attended, context) for h in range(p["query"].shape[1])]
        positions_out.append(np.concatenate(heads) @ p["out"].reshape(-1, x.shape[1]) + p.get("out_bias", 0))
    return np.stack(positions_out)


def head(p: Parts, h: int, x: np.ndarray, i: int, attended: np.ndarray, context: Context) -> np.ndarray:
    """Section 3.2.1: softmax(q Kᵀ / √d_k) V."""
    config = context.config.attention
    group = h * p["key"].shape[1] // p["query"].shape[1]  # heads that share a key
    zeros = np.zeros(p["query"].shape[1:])
    allowed = [j for j in range(len(attended)) if context.may_attend(i, j)]
    q = context.rotate(x[i] @ p["query"][:, h] + p.get("query_bias", zeros)[h], i)
    k = [context.rotate(attended[j] @ p["key"][:, group] + p.get("key_bias", zeros)[group], j) for j in allowed]
    v = attended[allowed] @ p["value"][:, group] + p.get("value_bias", zeros)[group]
    logits = np.stack(k) @ q / np.sqrt(config.query_pre_attn_scalar or len(q))
    logits = cap(logits, config.soft_cap) + [context.bias(h, i, j) for j in allowed]
    weights = np.exp(logits)
    return weights / weights.sum() @ v


def cap(x: np.ndarray, limit: float) -> np.ndarray:
    return limit * np.tanh(x / limit) if limit else x


def feed_forward(p: Parts, config: StackConfig, x: np.ndarray) -> np.ndarray:
    """Equation 2; with a gate Shazeer (2020), equation 6."""

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        return x @ p[name]["kernel"] + p[name].get("bias", 0)

    activation = ACTIVATIONS[config.feed_forward.activation]
    if config.feed_forward.gated:
        return dense("down", activation(dense("gate", x)) * dense("up", x))
    return dense("down", activation(dense("up", x)))


ACTIVATIONS = {
    "relu": lambda x: np.maximum(0, x),
    "gelu": lambda x: x * np.vectorize(lambda y: (1 + math.erf(y / math.sqrt(2))) / 2)(x),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def norm(p: Parts, config: StackConfig, x: np.ndarray) -> np.ndarray:
    """Ba et al. (2016), equation 4; Zhang & Sennrich (2019), equation 4."""
    if config.norm.kind == "layer":
        centered = x - x.mean(-1, keepdims=True)
        return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + config.norm.epsilon) * p["scale"] + p["bias"]
    gain = p["scale"] + (1 if config.norm.unit_offset else 0)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm.epsilon) * gain


def embed(p: Parts, ids: np.ndarray, scaled: bool = True) -> np.ndarray:
    """Section 3.4."""
    return p["table"][ids] * (np.sqrt(p["table"].shape[1]) if scaled else 1)


def positions(p: Parts, config: StackConfig, length: int, width: int) -> np.ndarray:
    if config.positions.kind == "learned":
        return embed(p["positions"]["vectors"], config.positions.offset + np.arange(length), config.positions.scale)
    if config.positions.kind in ("sinusoidal", "sinusoidal_concat"):
        table = sinusoids(length, width)
        is_interleaved = config.positions.kind == "sinusoidal"
        return table if is_interleaved else np.concatenate([table[:, ::2], table[:, 1::2]], axis=1)
    if config.positions.kind == "sinusoidal_fairseq":
        half = width // 2
        rates = 10_000.0 ** (-np.arange(half) / (half - 1))
        angles = (config.positions.offset + np.arange(length))[:, None] * rates
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return np.zeros((length, width))


def sinusoids(length: int, width: int) -> np.ndarray:
    """Section 3.5."""
    table = np.zeros((length, width))
    for position in range(length):
        for i in range(width // 2):
            angle = position / 10_000 ** (2 * i / width)
            table[position, 2 * i] = np.sin(angle)
            table[position, 2 * i + 1] = np.cos(angle)
    return table
