import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.config.model_dataclasses import StackConfig
from flaxformer_lite.models.layers.dropout import Dropout
from flaxformer_lite.models.rnn.cells import RecurrentLayer, scan_time
from tests.micro_config import micro
from tests.models import contract
from tests.models.subjects import RECURRENT, subject


@pytest.mark.parametrize("name", RECURRENT)
def test_padding_may_be_anywhere(name):
    """Padding leaves the state unchanged."""
    places = ([0, 2, 3, 6], [1, 4, 5])  # where the tokens of each row are moved to
    scattered = [np.zeros_like(field) for field in contract.SOURCE]
    for row, moved in enumerate(places):
        for new, old in zip(scattered, contract.SOURCE, strict=True):
            new[row, moved] = old[row, : len(moved)]
    found = subject(name).logits(contract.SOURCE._make(scattered), contract.TARGET)
    expected = subject(name).logits(contract.SOURCE, contract.TARGET)
    np.testing.assert_allclose(contract.real(found), contract.real(expected), **contract.CLOSE)


class _Dropped(nn.Module):
    """Dropout of ones, position by position."""

    config: StackConfig

    @nn.compact
    def __call__(self, x):
        def step(drop, carry, x):
            return carry, drop(x, True)

        return scan_time(step, self.config, "none")(Dropout(0.5), (), x)[1]


@pytest.mark.parametrize("variational", [False, True])
def test_variational_dropout_has_one_mask_for_all_positions(variational):
    config = micro({"model.encoder.rnn.variational_dropout": variational}).model.encoder
    kept = _Dropped(config).apply({}, np.ones((2, 6, 40), np.float32), rngs={"dropout": jax.random.key(0)})
    alike = (kept == kept[:, :1]).mean()
    assert (alike == 1) if variational else (0.5 < alike < 0.7)
    assert 0.3 < (kept[0] == kept[1]).mean() < 0.7, "rows have masks of their own"


def test_variational_dropout_applies_to_the_recurrence_too():
    """With an input of zeros, only the previous state can differ."""

    def step(cell, carry, x, train):
        return cell(carry, cell.project_input(x, train), train)[0]

    carry, x = (jnp.ones((2, 1, 30)),), jnp.zeros((2, 1, 3))
    for variational in (False, True):
        cell = RecurrentLayer("elman", 30, dropout=0.5, variational=variational)
        params = cell.init(jax.random.key(0), carry, x, False, method=step)
        keys = [{"dropout": jax.random.key(number)} for number in range(2)]
        found = [cell.apply(params, carry, x, True, rngs=key, method=step) for key in keys]
        assert np.array_equal(*found) != variational
