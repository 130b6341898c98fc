import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.models.layers.positions import sinusoidal
from tests.models import transformer_reference as reference


@pytest.mark.parametrize("width", [2, 6, 64])
def test_sinusoids_are_those_of_the_paper(width):
    places = jnp.array([[0, 1, 2], [40, 7, 511]])
    table = reference.sinusoids(512, width)
    np.testing.assert_allclose(
        sinusoidal(places, width), table[np.asarray(places)], atol=1e-4
    )  # float32 of 511 radians
