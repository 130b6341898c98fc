import jax
import numpy as np
import pytest

from tests.models import contract, recurrent_reference
from tests.models.subjects import RECURRENT, subject


@pytest.mark.parametrize("name", RECURRENT)
def test_logits_are_those_of_the_papers(name):
    model = subject(name)
    params = jax.tree.map(np.float64, model.params)
    found = model.logits(contract.SOURCE, contract.TARGET)
    for row in range(2):
        source, target = (
            tokens.ids[row, : tokens.segments[row].sum()] for tokens in (contract.SOURCE, contract.TARGET)
        )
        expected = recurrent_reference.logits(params, RECURRENT[name].config, source, target)
        np.testing.assert_allclose(found[row, : len(target)], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RECURRENT)
def test_padding_may_stand_anywhere(name):
    """A state walks over padding as if it were not there."""
    places = ([0, 2, 3, 6], [1, 4, 5])  # where the tokens of each row are moved to
    scattered = [np.zeros_like(field) for field in contract.SOURCE]
    for row, moved in enumerate(places):
        for new, old in zip(scattered, contract.SOURCE, strict=True):
            new[row, moved] = old[row, : len(moved)]
    found = subject(name).logits(contract.SOURCE._make(scattered), contract.TARGET)
    expected = subject(name).logits(contract.SOURCE, contract.TARGET)
    np.testing.assert_allclose(contract.real(found), contract.real(expected), **contract.CLOSE)
