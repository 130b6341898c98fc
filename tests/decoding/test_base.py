import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.decoding.base import top_k


@pytest.mark.parametrize("v", [5, 767, 768, 1001])
def test_top_k_for_small_and_large_vocabularies(v):
    values = jnp.asarray(np.random.default_rng(v).permutation(2 * 4 * v).reshape(2, 4, v), jnp.float32)
    largest, where = top_k(values, 3)
    np.testing.assert_array_equal(where, np.argsort(-values, axis=-1)[..., :3])
    np.testing.assert_array_equal(largest, np.take_along_axis(np.asarray(values), np.asarray(where), axis=-1))


@pytest.mark.parametrize("v", [5, 255, 1001, 5003])
def test_top_k_keeps_the_order_of_ties(v):
    values = jnp.asarray(np.random.default_rng(v).integers(0, max(3, v // 2), (2, 4, v)), jnp.float32)
    for k in (1, 3):
        np.testing.assert_array_equal(top_k(values, k)[1], np.argsort(-values, axis=-1, stable=True)[..., :k])
