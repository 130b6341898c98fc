"""Encoder and decoder of attention in plain NumPy, float64: one sentence at a time, so without padding."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from flaxformer_lite.config.dataclasses import ModelConfig

Parts = Mapping[str, Any]


def encode(p: Parts, config: ModelConfig, x: np.ndarray) -> np.ndarray:
    return stack(p, config, x, causal=False, memory=None)


def decode(p: Parts, config: ModelConfig, x: np.ndarray, memory: np.ndarray) -> np.ndarray:
    return stack(p, config, x, causal=True, memory=memory)


def stack(p: Parts, config: ModelConfig, x: np.ndarray, causal: bool, memory: np.ndarray | None) -> np.ndarray:
    x = x + positions(p, config, len(x), x.shape[1])
    x = norm(p["norm_embeddings"], config, x) if config.norms.embeddings else x
    for number in range(config.num_decoder_layers if causal else config.num_layers):
        own = p[f"layers_{number}"]
        kind = config.attention.pattern[number % len(config.attention.pattern)]
        told = Told(config, causal, kind == "window", own.get("positions", p.get("positions")))
        x = layer(own, told, x, memory)
    after = {"always": True, "never": False, "unless_after": config.norm != "after"}[config.norms.final]
    return norm(p["norm"], config, x) if after else x


class Told(NamedTuple):
    """What self-attention knows beside the vectors."""

    config: ModelConfig
    causal: bool
    windowed: bool
    positions: Any  # parameters

    def sees(self, query: int, key: int) -> bool:
        if self.causal and key > query:
            return False
        far = abs(query - key) - (0 if self.causal else 1)  # T5Gemma's windows
        return not self.windowed or far < self.config.attention.window

    def bias(self, head: int, query: int, key: int) -> float:
        if not self.config.positions.startswith("relative"):
            return 0.0
        return self.positions["table"][self.bucket(key - query), head]

    def bucket(self, distance: int) -> int:
        """T5's: exact up to half of the buckets, then by logarithm; after the query there are as many again."""
        details = self.config.position_details
        count = details.buckets if self.causal else details.buckets // 2
        first = count if distance > 0 and not self.causal else 0
        distance, exact = abs(distance), count // 2
        if distance < exact:
            return first + distance
        share = np.log(distance / exact) / np.log(details.max_distance / exact)
        return first + min(exact + int(share * (count - exact) + 1e-6), count - 1)

    def turn(self, x: np.ndarray, position: int) -> np.ndarray:
        """Su et al. (2021), section 3.2.2, in complex numbers: each pair times e to the i · position · rate."""
        if self.config.positions != "rotary":
            return x
        half = len(x) // 2
        rates = self.config.position_details.theta ** (-np.arange(half) / half)
        pairs = (x[:half] + 1j * x[half:]) * np.exp(1j * position * rates)
        return np.concatenate([pairs.real, pairs.imag])


def layer(p: Parts, told: Told, x: np.ndarray, memory: np.ndarray | None) -> np.ndarray:
    config = told.config
    x = sublayer(p["self_attention_residual"], config, x, lambda y: attention(p["self_attention"], y, y, told))
    if memory is not None:
        plain = Told(dataclasses.replace(config, positions="none"), False, False, None)
        x = sublayer(
            p["cross_attention_residual"], config, x, lambda y: attention(p["cross_attention"], y, memory, plain)
        )
    return sublayer(p["feed_forward_residual"], config, x, lambda y: feed_forward(p["feed_forward"], config, y))


def sublayer(p: Parts, config: ModelConfig, x: np.ndarray, function: Any) -> np.ndarray:
    if config.norm == "after":
        return norm(p["norm"], config, x + function(x))
    y = function(norm(p["norm"], config, x))
    return x + (norm(p["norm_within"], config, y) if config.norm == "around" else y)


def attention(p: Parts, x: np.ndarray, attended: np.ndarray, told: Told) -> np.ndarray:
    """Vaswani et al. (2017), section 3.2.2: for each place the concatenated heads, times W^O."""
    places = []
    for i in range(len(x)):
        heads = [head(p, h, x, i, attended, told) for h in range(p["query"].shape[1])]
        places.append(np.concatenate(heads) @ p["out"].reshape(-1, x.shape[1]) + p.get("out_bias", 0))
    return np.stack(places)


def head(p: Parts, h: int, x: np.ndarray, i: int, attended: np.ndarray, told: Told) -> np.ndarray:
    """Section 3.2.1: softmax(q Kᵀ / √d_k) V."""
    config = told.config.attention
    group = h * p["key"].shape[1] // p["query"].shape[1]  # heads that share a key
    zeros = np.zeros(p["query"].shape[1:])
    seen = [j for j in range(len(attended)) if told.sees(i, j)]
    q = told.turn(x[i] @ p["query"][:, h] + p.get("query_bias", zeros)[h], i)
    k = [told.turn(attended[j] @ p["key"][:, group] + p.get("key_bias", zeros)[group], j) for j in seen]
    v = attended[seen] @ p["value"][:, group] + p.get("value_bias", zeros)[group]
    logits = np.stack(k) @ q / np.sqrt(config.query_scalar or len(q))
    logits = cap(logits, config.softcap) + [told.bias(h, i, j) for j in seen]
    weights = np.exp(logits)
    return weights / weights.sum() @ v


def cap(x: np.ndarray, limit: float) -> np.ndarray:
    return limit * np.tanh(x / limit) if limit else x


def feed_forward(p: Parts, config: ModelConfig, x: np.ndarray) -> np.ndarray:
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


def norm(p: Parts, config: ModelConfig, x: np.ndarray) -> np.ndarray:
    """Ba et al. (2016), equation 4; Zhang & Sennrich (2019), equation 4."""
    if config.norms.kind == "layer":
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config.norms.epsilon) * p["scale"] + p["bias"]
    gain = p["scale"] + (1 if config.norms.kind == "rms_from_one" else 0)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norms.epsilon) * gain


def embed(p: Parts, ids: np.ndarray, scaled: bool = True) -> np.ndarray:
    """Section 3.4."""
    return p["table"][ids] * (np.sqrt(p["table"].shape[1]) if scaled else 1)


def positions(p: Parts, config: ModelConfig, length: int, width: int) -> np.ndarray:
    details = config.position_details
    if config.positions == "learned":
        return embed(p["positions"]["vectors"], details.offset + np.arange(length), details.scale)
    if config.positions in ("sinusoidal", "halves"):
        waves = sinusoids(length, width)
        return waves if config.positions == "sinusoidal" else np.concatenate([waves[:, ::2], waves[:, 1::2]], axis=1)
    if config.positions == "fairseq":
        half = width // 2
        rates = 10_000.0 ** (-np.arange(half) / (half - 1))
        angles = (details.offset + np.arange(length))[:, None] * rates
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
