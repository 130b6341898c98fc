import jax
import numpy as np
import pytest

from tests.models import contract, reference
from tests.models.subjects import TRANSFORMERS, subject


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_logits_are_those_of_the_paper(name):
    model = subject(name)
    params = jax.tree.map(np.float64, model.params)
    found = model.logits(contract.SOURCE, contract.TARGET)
    for row in range(2):
        source, target = (
            tokens.ids[row, : tokens.segments[row].sum()] for tokens in (contract.SOURCE, contract.TARGET)
        )
        expected = reference.logits(params, TRANSFORMERS[name].config, source, target)
        np.testing.assert_allclose(found[row, : len(target)], expected, rtol=1e-4, atol=1e-5)
