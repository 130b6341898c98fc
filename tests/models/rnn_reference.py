"""Encoders and decoders of the recurrent papers in plain NumPy, float64: one sentence and one position at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxformer_lite.config.model_dataclasses import StackConfig

Parts = Mapping[str, Any]
State = tuple[np.ndarray, ...]


def encode(p: Parts, config: StackConfig, x: np.ndarray) -> tuple[np.ndarray, list[State]]:
    """The states of all positions, and each layer's last state."""
    ways = {"forward": [1], "backward": [-1], "both": [1, -1]}[config.rnn.direction]
    lasts = []
    for layer in range(config.num_layers):
        found = [run(p[f"layers_{layer}_{i}"]["core"], config, x[::way]) for i, way in enumerate(ways)]
        states = np.concatenate([states[::way] for (states, _), way in zip(found, ways, strict=True)], axis=1)
        lasts.append(tuple(np.concatenate(arrays) for arrays in zip(*(last for _, last in found), strict=True)))
        x = states + x if 0 < config.rnn.residual_from <= layer + 1 else states
    return x, lasts


def run(p: Parts, config: StackConfig, x: np.ndarray) -> tuple[np.ndarray, State]:
    """All the states of one layer in one direction, and the last one."""
    state = (np.zeros(config.width),) * (2 if config.rnn.cell == "lstm" else 1)
    states = []
    for row in x:
        state = cell(config.rnn.cell, p, row, state)
        states.append(state[0])
    return np.stack(states), state


def decode(p: Parts, config: StackConfig, x: np.ndarray, annotations: np.ndarray, lasts: list[State]) -> np.ndarray:
    """The output at each position of the target."""
    states = [start(p.get("bridge", {}), config, lasts, layer) for layer in range(config.num_layers)]
    summary = np.tanh(dense(p["summary"], lasts[-1][0])) if config.rnn.design == "cho" else np.zeros(0)
    fed = np.zeros(config.rnn.readout_dim or config.width) if config.rnn.input_feeding else np.zeros(0)
    outputs = []
    for y in x:
        context = summary
        if config.rnn.design == "bahdanau":
            context = attend(p.get("attend", {}).get("score", {}), config.rnn.attention, states[-1][0], annotations)
        states, h = stack(p["stack"], config, states, np.concatenate([y, context, fed]))
        if config.rnn.design == "sutskever":
            outputs.append(h)
        elif config.rnn.design == "luong":  # Luong et al. (2015), equation 5
            context = attend(p.get("attend", {}).get("score", {}), config.rnn.attention, h, annotations)
            outputs.append(np.tanh(dense(p["readout"], np.concatenate([context, h]))))
            fed = outputs[-1] if config.rnn.input_feeding else fed
        else:  # Cho et al. (2014), section A.1.2; Bahdanau et al. (2015), section A.2.2
            pairs = dense(p["readout"]["Dense_0"], np.concatenate([y, h, context]))
            outputs.append(np.array([max(pairs[2 * i], pairs[2 * i + 1]) for i in range(len(pairs) // 2)]))
    return np.stack(outputs)


def stack(p: Parts, config: StackConfig, states: list[State], x: np.ndarray) -> tuple[list[State], np.ndarray]:
    after = []
    for layer, state in enumerate(states):
        after.append(cell(config.rnn.cell, p[f"cells_{layer}"]["core"], x, state))
        x = after[-1][0] + x if 0 < config.rnn.residual_from <= layer + 1 else after[-1][0]
    return after, x


def start(p: Parts, config: StackConfig, lasts: list[State], layer: int) -> State:
    height = config.num_layers - layer
    last = lasts[max(len(lasts) - height, 0)]
    if config.rnn.bridge == "copy":
        return last
    arrays = 2 if config.rnn.cell == "lstm" else 1
    return tuple(np.tanh(dense(p[f"Dense_{layer * arrays + i}"], np.concatenate(last))) for i in range(arrays))


def attend(p: Parts, kind: str, query: np.ndarray, annotations: np.ndarray) -> np.ndarray:
    """Bahdanau et al. (2015), equations 5 and 6; scores: their section A.1.2 and Luong et al. (2015), equation 8."""
    scores = []
    for h in annotations:
        if kind == "dot":
            scores.append(query @ h)
        elif kind == "general":
            scores.append(query @ (h @ p["key"]))
        else:
            hidden = np.concatenate([query, h]) @ np.concatenate([p["query"], p["key"]["kernel"]]) + p["key"]["bias"]
            scores.append(p["v"] @ np.tanh(hidden))
    weights = np.exp(np.array(scores))
    return weights / weights.sum() @ annotations


def cell(kind: str, p: Parts, x: np.ndarray, state: State) -> State:
    h = state[0]
    if kind == "elman":  # Elman (1990)
        return (np.tanh(gate(p["input"], x, 0) + gate(p["recurrent"], h, 0)),)
    if kind == "lstm":  # Gers et al. (2000)
        i, f, g, o = (gate(p["input"], x, n) + gate(p["recurrent"], h, n) for n in range(4))
        c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    r, z = (sigmoid(gate(p["input"], x, n) + gate(p["recurrent"], h, n)) for n in range(2))
    if kind == "gru2014":  # Cho et al. (2014), equations 5 to 8
        new = np.tanh(gate(p["input"], x, 2) + gate(p["new"], r * h, 0))
    else:
        new = np.tanh(gate(p["input"], x, 2) + r * (gate(p["recurrent"], h, 2) + p["new_bias"]))
    return (z * h + (1 - z) * new,)


def gate(p: Parts, x: np.ndarray, number: int) -> np.ndarray:
    return x @ p["kernel"][:, number] + (p["bias"][number] if "bias" in p else 0)


def dense(p: Parts, x: np.ndarray) -> np.ndarray:
    return x @ p["kernel"] + p["bias"]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
