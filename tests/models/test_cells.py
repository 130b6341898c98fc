"""Cells against PyTorch's with the same weights; test_papers.py compares them with the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.models.rnn.cells import CELLS

torch = pytest.importorskip("torch", reason="PyTorch is the reference here: pip install -e '.[hf]'")

_WIDTH, _INPUT, _BATCH, _LENGTH = 5, 3, 2, 4


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def _theirs(kind: str, gates: int) -> tuple[torch.nn.Module, dict]:
    """A PyTorch layer with random weights, and the same weights as our parameters."""
    layer = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](_INPUT, _WIDTH, batch_first=True)
    weights = {
        "weight_ih_l0": _random(gates * _WIDTH, _INPUT),
        "weight_hh_l0": _random(gates * _WIDTH, _WIDTH),
        "bias_ih_l0": _random(gates * _WIDTH),
        "bias_hh_l0": _random(gates * _WIDTH) * 0.5,
    }
    layer.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    by_gate = {name: value.reshape(gates, _WIDTH, *value.shape[1:]) for name, value in weights.items()}
    bias = by_gate["bias_ih_l0"] + by_gate["bias_hh_l0"]
    params = {
        "input": {"kernel": by_gate["weight_ih_l0"].transpose(2, 0, 1), "bias": bias},
        "recurrent": {"kernel": by_gate["weight_hh_l0"].transpose(2, 0, 1)},
    }
    if kind == "gru":  # the bias that the reset gate multiplies is separate
        bias[2] = by_gate["bias_ih_l0"][2]
        params["new_bias"] = by_gate["bias_hh_l0"][2]
    return layer, jax.tree.map(jnp.asarray, params)


@pytest.mark.parametrize(("kind", "gates"), [("elman", 1), ("lstm", 4), ("gru", 3)])
def test_equals_pytorch(kind, gates):
    layer, params = _theirs(kind, gates)
    cell, x = CELLS[kind](_WIDTH), jnp.asarray(_random(_BATCH, _LENGTH, _INPUT))
    with torch.no_grad():
        expected, _ = layer(torch.tensor(np.asarray(x)))
    carry = (jnp.zeros((_BATCH, _WIDTH)),) * CELLS[kind].num_state_arrays
    x_gates = cell.apply({"params": params}, x, method="project_input")
    ours = jax.jit(lambda carry, x_gates: cell.apply({"params": params}, carry, x_gates, carry[0]))
    for position in range(_LENGTH):
        carry = ours(carry, x_gates[:, position])
        np.testing.assert_allclose(carry[0], expected[:, position].numpy(), rtol=1e-5, atol=1e-5)
