"""In training mode published families apply dropout where the reference does, with the same rates."""

import itertools

import jax.numpy as jnp
import pytest

from flaxformer_lite.models.layers import dropout
from tests.interop import model_pairs
from tests.interop.tiny_models import MODELS
from tests.marks import slow_except
from tests.transformers_reference import torch

pytestmark = pytest.mark.filterwarnings("ignore")  # raised by other libraries

_RATES = {
    **{"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3, "dropout_rate": 0.4},
    **{"encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5},
}
_QUICK = ("umt5", "bart")


@pytest.mark.parametrize("name", slow_except(_QUICK, MODELS))
def test_dropout_is_applied_where_the_reference_applies_it(name, monkeypatch):
    """Both are made deterministic: elements are scaled by their position, and every second layer is dropped."""
    counters = {"own": itertools.count(), "reference": itertools.count()}

    def scaled(x, rate, library):
        return x * (1 + rate * library.cos(library.arange(x.shape[-1]))) if rate else x

    def reference_dropout(x, p=0.5, training=True, inplace=False):
        return scaled(x, p, torch) if training else x

    monkeypatch.setattr(torch.nn.functional, "dropout", reference_dropout)
    monkeypatch.setattr(torch, "rand", lambda shape: torch.tensor(float(next(counters["reference"]) % 2)))
    monkeypatch.setattr(dropout.Dropout, "__call__", lambda self, x, train: scaled(x, self.rate, jnp) if train else x)

    def layerdrop(self, before, after, train):
        return before if train and self.rate and next(counters["own"]) % 2 == 0 else after

    monkeypatch.setattr(dropout.LayerDrop, "__call__", layerdrop)
    known = MODELS[name].config().to_dict()
    rates = {key: rate for key, rate in _RATES.items() if key in known}
    pair = MODELS[name]._replace(settings=MODELS[name].settings | rates).make_pair()
    pair.reference.train()
    batch = model_pairs.random_batch(pair)
    expected = model_pairs.run_reference(pair, *batch)
    model_pairs.assert_same(model_pairs.run_model(pair, *batch), expected, batch[1].segments)
