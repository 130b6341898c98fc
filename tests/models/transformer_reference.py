"""Encoder and decoder of Vaswani et al. (2017) in plain NumPy, float64: one sentence at a time, so without any mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxformer_lite.config import ModelConfig

Parts = Mapping[str, Any]


def encode(p: Parts, config: ModelConfig, x: np.ndarray) -> np.ndarray:
    x = x + positions(p, config, len(x))
    for layer in range(config.num_layers):
        x = encoder_layer(p[f"layers_{layer}"], config.norm, x)
    return layer_norm(p["norm"], x) if config.norm == "before" else x


def decode(p: Parts, config: ModelConfig, x: np.ndarray, memory: np.ndarray) -> np.ndarray:
    x = x + positions(p, config, len(x))
    for layer in range(config.num_decoder_layers):
        x = decoder_layer(p[f"layers_{layer}"], config.norm, x, memory)
    return layer_norm(p["norm"], x) if config.norm == "before" else x


def encoder_layer(p: Parts, norm: str, x: np.ndarray) -> np.ndarray:
    x = sublayer(p["self_attention_residual"], norm, x, lambda y: attention(p["self_attention"], y, y, causal=False))
    return sublayer(p["feed_forward_residual"], norm, x, lambda y: feed_forward(p["feed_forward"], y))


def decoder_layer(p: Parts, norm: str, x: np.ndarray, memory: np.ndarray) -> np.ndarray:
    x = sublayer(p["self_attention_residual"], norm, x, lambda y: attention(p["self_attention"], y, y, causal=True))
    x = sublayer(
        p["cross_attention_residual"], norm, x, lambda y: attention(p["cross_attention"], y, memory, causal=False)
    )
    return sublayer(p["feed_forward_residual"], norm, x, lambda y: feed_forward(p["feed_forward"], y))


def sublayer(p: Parts, norm: str, x: np.ndarray, function: Any) -> np.ndarray:
    if norm == "before":
        return x + function(layer_norm(p["norm"], x))
    return layer_norm(p["norm"], x + function(x))


def attention(p: Parts, x: np.ndarray, attended: np.ndarray, causal: bool) -> np.ndarray:
    """Section 3.2.2: for each place the concatenated heads, times W^O."""
    places = []
    for i, row in enumerate(x):
        seen = attended[: i + 1] if causal else attended
        heads = [head(p, h, row, seen) for h in range(p["query"].shape[1])]
        places.append(np.concatenate(heads) @ p["out"].reshape(-1, x.shape[1]) + p["out_bias"])
    return np.stack(places)


def head(p: Parts, h: int, row: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Section 3.2.1: softmax(q Kᵀ / √d_k) V."""
    q = row @ p["query"][:, h] + p["query_bias"][h]
    k = seen @ p["key"][:, h] + p["key_bias"][h]
    v = seen @ p["value"][:, h] + p["value_bias"][h]
    weights = np.exp(k @ q / np.sqrt(len(q)))
    return weights / weights.sum() @ v


def feed_forward(p: Parts, x: np.ndarray) -> np.ndarray:
    """Equation 2."""
    hidden = np.maximum(0, x @ p["up"]["kernel"] + p["up"]["bias"])
    return hidden @ p["down"]["kernel"] + p["down"]["bias"]


def layer_norm(p: Parts, x: np.ndarray) -> np.ndarray:
    """Ba et al. (2016), equation 4."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def embed(p: Parts, ids: np.ndarray) -> np.ndarray:
    """Section 3.4."""
    return p["table"][ids] * np.sqrt(p["table"].shape[1])


def positions(p: Parts, config: ModelConfig, length: int) -> np.ndarray:
    if config.positions == "learned":
        return embed(p["positions"]["vectors"], np.arange(length))
    return sinusoids(length, config.width)


def sinusoids(length: int, width: int) -> np.ndarray:
    """Section 3.5."""
    table = np.zeros((length, width))
    for position in range(length):
        for i in range(width // 2):
            angle = position / 10_000 ** (2 * i / width)
            table[position, 2 * i] = np.sin(angle)
            table[position, 2 * i + 1] = np.cos(angle)
    return table
