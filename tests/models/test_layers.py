from itertools import combinations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxformer_lite.models.layers.dropout import Dropout, LayerDrop
from flaxformer_lite.models.layers.embedding import Embedding
from flaxformer_lite.models.layers.linear import Dense, soft_cap
from flaxformer_lite.models.layers.norm import LayerNorm, RMSNorm

_SIGMAS = 5.0  # tolerance for random counts


def _kept(rate: float, keys: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    """Elements that dropout keeps, for one key or each of several."""

    def drop(key: jax.Array) -> jax.Array:
        return Dropout(rate).apply({}, jnp.ones(shape), True, rngs={"dropout": key})

    return np.asarray(jax.jit(jax.vmap(drop) if keys.ndim else drop)(keys)) != 0


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_scales_up_the_rest(rate):
    dropped = Dropout(rate).apply({}, jnp.full((200, 333), 3.0), True, rngs={"dropout": jax.random.key(0)})
    values, counts = np.unique(dropped, return_counts=True)
    np.testing.assert_allclose(values, [0, 3 / (1 - rate)], rtol=1e-6)
    n = counts.sum()
    assert abs(counts[0] - rate * n) < _SIGMAS * np.sqrt(n * rate * (1 - rate))


def test_dropout_is_the_identity_without_training_or_rate():
    x = jnp.arange(6.0).reshape(2, 3)
    assert Dropout(0.5).apply({}, x, False) is x
    assert Dropout(0.0).apply({}, x, True) is x


def test_all_elements_are_dropped_equally_often():
    keys = jax.random.split(jax.random.key(1), 1000)
    kept = _kept(0.2, keys, (7, 11)).sum(0)
    squares = (kept - 800) ** 2 / (1000 * 0.2 * 0.8)
    assert abs(squares.sum() - 77) < _SIGMAS * np.sqrt(2 * 77)  # chi-square of 77 degrees of freedom


def test_neighbors_are_dropped_independently():
    kept = _kept(0.3, jax.random.key(2), (256, 320)) - 0.7
    variance = 0.3 * 0.7
    for axis in (0, 1):
        for lag in (*range(1, 9), 16, 31, 32, 64, 128):
            along = np.moveaxis(kept, axis, 0)
            products = along[lag:] * along[:-lag]
            assert abs(products.mean()) < _SIGMAS * variance / np.sqrt(products.size), (axis, lag)


@pytest.mark.parametrize("axis", [0, 1])
def test_all_patterns_of_eight_elements_are_equally_likely(axis):
    kept = np.moveaxis(_kept(0.5, jax.random.key(3), (512, 512)), axis, 1).reshape(-1, 8)
    counts = np.bincount(np.packbits(kept, axis=1)[:, 0], minlength=256)
    expected = len(kept) / 256
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert abs(statistic - 255) < _SIGMAS * np.sqrt(2 * 255)


def test_masks_of_different_keys_are_independent():
    steps = [jax.random.fold_in(jax.random.key(0), step) for step in range(24)]
    seeds = [jax.random.key(seed) for seed in range(24)]
    masks = _kept(0.5, jnp.stack(steps + seeds), (64, 64)).reshape(48, -1) - 0.5
    correlations = np.array([4 * (masks[i] * masks[j]).mean() for i, j in combinations(range(48), 2)])
    assert np.abs(correlations).max() < _SIGMAS / np.sqrt(64 * 64)
    assert correlations.std() == pytest.approx(1 / 64, rel=0.1)


def test_masks_of_different_modules_and_calls_are_independent():
    class Several(nn.Module):
        def setup(self):
            self.one, self.other = Dropout(0.5), Dropout(0.5)

        def __call__(self, x):
            return self.one(x, True), self.one(x, True), self.other(x, True)

    masks = np.stack(Several().apply({}, jnp.ones((64, 64)), rngs={"dropout": jax.random.key(0)})) - 1
    for i, j in combinations(range(3), 2):
        assert abs((masks[i] * masks[j]).mean()) < _SIGMAS / 64


def test_masks_do_not_depend_on_sharding():
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("rows", "columns"))
    x = np.random.default_rng(0).standard_normal((8, 6, 10)).astype(np.float32)
    drop = jax.jit(lambda x: Dropout(0.4).apply({}, x, True, rngs={"dropout": jax.random.key(5)}))
    whole = np.asarray(drop(x))
    for spec in (("rows",), (None, "columns"), ("rows", None, "columns"), (("rows", "columns"),)):
        sharded = drop(jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec))))
        assert len({shard.device for shard in sharded.addressable_shards}) == 8
        np.testing.assert_array_equal(sharded, whole)


def test_masks_do_not_depend_on_padding():
    key, shape = jax.random.key(6), (3, 4, 5, 7)
    part = tuple(slice(size) for size in shape)
    for padded in ((3, 4, 9, 7), (3, 4, 5, 16), (3, 4, 8, 8)):
        np.testing.assert_array_equal(_kept(0.5, key, padded)[part], _kept(0.5, key, shape))


def test_gradients_are_dropped_like_values():
    x = jnp.ones((5, 7))
    value, gradient = (
        function(lambda x: Dropout(0.5).apply({}, x, True, rngs={"dropout": jax.random.key(4)}).sum())(x)
        for function in (lambda f: f, jax.grad)
    )
    np.testing.assert_array_equal(gradient, 2.0 * _kept(0.5, jax.random.key(4), x.shape))
    assert value == gradient.sum()


def test_layer_norm_equals_the_formula_far_from_zero():
    x = (100 + np.random.default_rng(0).standard_normal((2, 3, 5))).astype(np.float32)
    scale, bias = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)
    found = LayerNorm().apply({"params": {"scale": scale, "bias": bias}}, jnp.asarray(x))
    wide = np.float64(x)
    expected = (wide - wide.mean(-1, keepdims=True)) / wide.std(-1, keepdims=True) * scale + bias
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_layer_norm_keeps_the_dtype_and_maps_a_constant_to_its_bias():
    x = jnp.full((2, 5), 3, jnp.bfloat16)
    norm, params = LayerNorm().init_with_output(jax.random.key(0), x)
    assert norm.dtype == jnp.bfloat16
    np.testing.assert_array_equal(norm, nn.meta.unbox(params)["params"]["bias"][None].repeat(2, 0))


def test_dense_is_initialized_by_glorot():
    params = nn.meta.unbox(Dense(30, ("embed", "mlp")).init(jax.random.key(0), jnp.ones((1, 70))))["params"]
    bound = np.sqrt(6 / (30 + 70))
    assert 0.99 * bound < np.abs(params["kernel"]).max() <= bound
    assert params["kernel"].std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
    assert not params["bias"].any()


def test_scaled_embeddings_have_a_standard_deviation_of_one():
    ids = jnp.arange(50)[None]
    vectors, variables = Embedding(50, 64).init_with_output(jax.random.key(0), ids)
    table = nn.meta.unbox(variables)["params"]["table"]
    np.testing.assert_allclose(vectors[0], table * 8, rtol=1e-6)
    assert vectors.std() == pytest.approx(1, rel=0.05)
    logits = Embedding(50, 64).apply(variables, vectors, method="logits")
    np.testing.assert_allclose(logits[0], 8 * table @ table.T, rtol=1e-4, atol=1e-4)


def test_layerdrop_skips_whole_layers_at_its_rate():
    before, after = jnp.zeros((2, 3)), jnp.ones((2, 3))
    layer = LayerDrop(0.3)
    keys = jax.random.split(jax.random.key(0), 1000)
    found = jax.vmap(lambda key: layer.apply({}, before, after, True, rngs={"dropout": key}))(keys).reshape(1000, 6)
    assert (found == found[:, :1]).all()
    assert abs(found[:, 0].sum() - 700) < _SIGMAS * np.sqrt(1000 * 0.3 * 0.7)
    assert layer.apply({}, before, after, False) is after
    assert LayerDrop(0.0).apply({}, before, after, True) is after


@pytest.mark.parametrize(("unit_offset", "gain"), [(False, 0), (True, 1)])
def test_rms_norm_of_any_magnitude_in_bfloat16(unit_offset, gain):
    """Activations of the large T5 models reach 1e5, whose sum of squares overflows float16."""
    x = np.random.default_rng(0).standard_normal((2, 3, 500))
    scale = np.random.default_rng(1).standard_normal(500).astype(np.float32)
    norm = RMSNorm(unit_offset=unit_offset)
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True)) * (scale + gain)
    for size in (1e-1, 1.0, 1e6, 1e12):
        found = norm.apply({"params": {"scale": scale}}, jnp.asarray(size * x, jnp.bfloat16))
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(np.float32), expected, rtol=0.02, atol=0.01)
    new = norm.init_with_output(jax.random.key(0), jnp.ones((2, 5)))[0]
    np.testing.assert_allclose(new, 1, rtol=1e-5)


def test_soft_cap_bounds_large_values_and_keeps_small_ones():
    x = jnp.array([-1e6, -0.01, 0.0, 0.02, 5.0, 1e6])
    np.testing.assert_allclose(soft_cap(x, 5.0), [-5, -0.01, 0, 0.02, 5 * np.tanh(1), 5], rtol=1e-4)
    assert soft_cap(x, 0.0) is x


def test_unscaled_embeddings_are_the_rows_of_the_table():
    ids = jnp.arange(50)[None]
    vectors, variables = Embedding(50, 64, scaled=False).init_with_output(jax.random.key(0), ids)
    np.testing.assert_array_equal(vectors[0], nn.meta.unbox(variables)["params"]["table"])
    assert vectors.std() == pytest.approx(1, rel=0.05)
    small = Embedding(50, 64, stddev=0.02).init(jax.random.key(0), ids)
    assert nn.meta.unbox(small)["params"]["table"].std() == pytest.approx(0.02, rel=0.05)
