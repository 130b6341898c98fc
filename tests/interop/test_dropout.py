"""In training published families drop what the reference drops, at every place and by the rate of its own setting."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.models import layers
from tests.interop import published
from tests.interop.published import SOURCES, TARGETS, rows
from tests.interop.tiny import MODELS
from tests.reference import torch

pytestmark = pytest.mark.filterwarnings("ignore")  # those of other libraries are not ours to mend

_RATES = {
    **{"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3, "dropout_rate": 0.4},
    **{"encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5},
}
_QUICK = ("umt5", "bart", "t5gemma")


@pytest.mark.parametrize(
    "name", [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_what_is_dropped_is_what_the_reference_drops(name, monkeypatch):
    """Chance is taken out of both: elements are scaled by where they stand, and every second layer is left out."""
    numbers = {"ours": itertools.count(), "theirs": itertools.count()}

    def scaled(x, rate, library):
        return x * (1 + rate * library.cos(library.arange(x.shape[-1]))) if rate else x

    def their_dropout(x, p=0.5, training=True, inplace=False):
        return scaled(x, p, torch) if training else x

    monkeypatch.setattr(torch.nn.functional, "dropout", their_dropout)
    monkeypatch.setattr(torch, "rand", lambda shape: torch.tensor(float(next(numbers["theirs"]) % 2)))
    monkeypatch.setattr(layers.Dropout, "__call__", lambda self, x, train: scaled(x, self.rate, jnp) if train else x)

    def left_out(self, before, after, train):
        return before if train and self.rate and next(numbers["ours"]) % 2 == 0 else after

    monkeypatch.setattr(layers.LayerDropout, "__call__", left_out)
    known = MODELS[name].config().to_dict()
    rates = {key: rate for key, rate in _RATES.items() if key in known}
    model = MODELS[name]._replace(settings=MODELS[name].settings | rates).both()
    model.theirs.train()
    source, target = rows(model, SOURCES, model.ours.source_size), rows(model, TARGETS, model.ours.target_size)
    given = source, target, np.roll(target.ids, -1, axis=1)
    published.assert_same(published.ours(model, *given), published.theirs(model, *given), target.segments)
