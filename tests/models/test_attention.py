import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.config import defaults, parsing
from flaxformer_lite.models.layers import attention as attention_layer
from flaxformer_lite.models.layers.attention import (
    AttentionContext,
    KeyValue,
    MultiHeadAttention,
    causal_mask,
    segment_mask,
)
from tests.models import transformer_reference as reference

_WIDTH, _HEADS = 6, 3


class _Attended(MultiHeadAttention):
    """Attention to unprojected vectors."""

    def __call__(self, x, attended, mask, train=False):
        return super().__call__(x, self.project(attended, ()), AttentionContext(jnp.asarray(mask)), train)


@pytest.fixture(scope="module")
def attention() -> _Attended:
    values = defaults.get_config()
    values.model.encoder.update({"width": _WIDTH, "num_heads": _HEADS, "dropout": 0.5})
    return _Attended(parsing.from_dict(values.to_dict()).model.encoder, "glorot", _WIDTH)


@pytest.fixture(scope="module")
def params(attention) -> dict:
    """Random parameters, biases included."""
    x, mask = jnp.zeros((2, 4, _WIDTH)), jnp.ones((2, 1, 4), bool)
    shapes = nn.meta.unbox(jax.eval_shape(attention.init, jax.random.key(0), x, x, mask)["params"])
    return jax.tree.map(lambda x: _random(x.shape, len(x.shape)), shapes)


def _random(shape: tuple[int, ...], seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_equals_the_formula_of_the_paper_over_unmasked_positions(attention, params):
    x, attended = _random((2, 3, _WIDTH), 1), _random((2, 5, _WIDTH), 2)
    mask = np.array([[[1, 1, 0, 1, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]], [[0, 1, 0, 1, 0]] * 3], bool)
    found = attention.apply({"params": params}, x, attended, mask)
    wide, plain = jax.tree.map(np.float64, params), reference.Context(attention.config, False, False, None)
    for b in range(2):
        for q in range(3):
            (expected,) = reference.attention(
                wide, np.float64(x[b, q : q + 1]), np.float64(attended)[b][mask[b, q]], plain
            )
            np.testing.assert_allclose(found[b, q], expected, rtol=1e-4, atol=1e-5)


def test_the_fused_kernel_gets_the_same_queries_keys_values_and_mask(attention, params, monkeypatch):
    x, attended = _random((2, 3, _WIDTH), 1), _random((2, 5, _WIDTH), 2)
    mask = np.random.default_rng(3).integers(0, 2, (2, 1, 5)).astype(bool) | np.eye(5, dtype=bool)[0]
    expected = attention.apply({"params": params}, x, attended, mask)
    used, fused = [], jax.nn.dot_product_attention
    monkeypatch.setattr(attention_layer, "_has_cudnn", lambda: True)
    monkeypatch.setattr(MultiHeadAttention, "_is_fusible", lambda *_: True)

    def on_cpu(*arguments, scale, implementation):
        used.append(implementation)
        return fused(*arguments, scale=scale)

    monkeypatch.setattr(jax.nn, "dot_product_attention", on_cpu)
    np.testing.assert_allclose(attention.apply({"params": params}, x, attended, mask), expected, rtol=1e-5, atol=1e-6)
    assert used == ["cudnn"]


def test_over_beams_each_hypothesis_attends_to_its_own_ancestors(attention, params):
    x, written = _random((2, 3, _WIDTH), 1), _random((2, 4, 5, _WIDTH), 2)  # 3 hypotheses, 4 beams of up to 5 positions
    ancestry = np.random.default_rng(3).integers(0, 4, (2, 3, 5))
    lengths = np.array([[1, 5, 3], [4, 2, 5]])
    alive = np.arange(5) < lengths[..., None]
    mask = (ancestry[:, None] == np.arange(4)[:, None, None]) & alive[:, None]
    kept = attention.apply({"params": params}, written, (), method="project")
    found = attention.apply(
        {"params": params}, x, KeyValue(*kept), AttentionContext(jnp.asarray(mask)), method="over_beams"
    )
    wide, plain = jax.tree.map(np.float64, params), reference.Context(attention.config, False, False, None)
    for b in range(2):
        for m in range(3):
            own = np.float64(written)[b, ancestry[b, m], np.arange(5)][: lengths[b, m]]
            (expected,) = reference.attention(wide, np.float64(x[b, m : m + 1]), own, plain)
            np.testing.assert_allclose(found[b, m], expected, rtol=1e-4, atol=1e-5)


def test_a_fully_masked_query_has_finite_output_and_gradients(attention, params):
    x, mask = _random((2, 3, _WIDTH), 1), np.zeros((2, 1, 3), bool)

    def total(params, x):
        return attention.apply({"params": params}, x, x, mask).sum()

    assert np.isfinite(total(params, x))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(total, argnums=(0, 1))(params, x)))


def test_large_logits_are_finite(attention, params):
    x, mask = 1e4 * _random((2, 3, _WIDTH), 1), np.ones((2, 1, 3), bool)
    assert np.isfinite(attention.apply({"params": params}, x, x, mask)).all()


def test_dropout_falls_on_the_weights(attention, params):
    x, mask = _random((2, 1, _WIDTH), 1), np.ones((2, 1, 1), bool)  # one position, so one weight per head
    value = _random((2, 1, _WIDTH), 2)
    keys = jax.random.split(jax.random.key(0), 8)
    found = jax.vmap(lambda key: attention.apply({"params": params}, x, value, mask, True, rngs={"dropout": key}))(keys)
    values = np.einsum("bld,dhk->bhk", value, params["value"]) + params["value_bias"]
    by_head = np.einsum("bhk,hkd->bhd", values, params["out"])  # each head is dropped or doubled as a whole
    possible = [np.einsum("h,bhd->bd", 2 * np.array(kept), by_head) for kept in np.ndindex(2, 2, 2)]
    possible = np.stack(possible)[:, :, None] + params["out_bias"]
    nearest = np.abs(found[:, None] - possible[None]).max(-1).min(1)
    assert nearest.max() < 1e-4
    assert np.ptp(found, axis=0).min() > 0


def test_masks():
    segments = jnp.array([[1, 1, 2, 0], [1, 2, 2, 2]])
    expected = [
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]],
        [[1, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]],
    ]
    np.testing.assert_array_equal(segment_mask(segments, segments), np.array(expected, bool))
    np.testing.assert_array_equal(segment_mask(segments[:, :2], segments), np.array(expected, bool)[:, :2])
    np.testing.assert_array_equal(causal_mask(3), [[[True, False, False], [True, True, False], [True, True, True]]])
