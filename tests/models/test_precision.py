"""bfloat16: matrix products use it; norms, softmax and logits do not; parameters keep their dtype."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.train_step.losses import cross_entropy
from tests.marks import slow_except
from tests.models.contract import SOURCE, TARGET, Subject
from tests.models.subjects import MODELS, with_dropout

NAMES = [
    "sinusoidal, pre, target, 1 + 2",
    "learned, pre, none",
    "relative bias",
    "rotary",
    "lstm, both, luong, general, fed, 1 + 2",
    "gru, both, cho, 2 + 1",
    "gru2014, both, bahdanau, additive",
    "elman, forward, sutskever, copied",
]


def loss_of(model: Any) -> Any:
    def loss(params: Any, source: Any, target: Any) -> Any:
        logits = model.apply({"params": params}, source, target, train=True, rngs={"dropout": jax.random.key(0)})
        assert logits.dtype == jnp.float32
        return cross_entropy(logits, jnp.roll(target.ids, -1, axis=1), jnp.float32(target.segments), 0.1)[0]

    return loss


def equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from equations(getattr(inner, "jaxpr", inner))


@pytest.mark.parametrize("name", NAMES)
def test_products_are_in_bfloat16_and_reductions_are_not(name):
    model = dataclasses.replace(MODELS[name], dtype="bfloat16")
    jaxpr = jax.make_jaxpr(jax.grad(loss_of(model)))(Subject(MODELS[name]).params, SOURCE, TARGET)
    seen = {"dot_general": 0, "exp": 0, "rsqrt": 0}
    for equation in equations(jaxpr.jaxpr):
        kind, dtypes = equation.primitive.name, {x.aval.dtype.name for x in equation.invars if hasattr(x, "aval")}
        if kind == "dot_general":
            assert "bfloat16" in dtypes, equation
        elif kind in ("exp", "log", "rsqrt"):
            assert "bfloat16" not in dtypes, equation
        seen[kind] = seen.get(kind, 0) + 1
    assert seen["dot_general"] > 10
    assert seen["exp"] > 0
    assert seen["rsqrt"] > 0 or model.config.encoder.kind == "rnn"


@pytest.mark.parametrize("name", slow_except((NAMES[0], NAMES[4]), NAMES[:5]))
def test_gradients_are_float32_and_close_to_those_of_float32(name):
    plain = dataclasses.replace(MODELS[name], config=with_dropout(MODELS[name].config, 0.0))
    params = jax.tree.map(lambda x: x / 2, Subject(plain).params)
    exact, rough = (
        jax.jit(jax.value_and_grad(loss_of(dataclasses.replace(plain, dtype=dtype))))(params, SOURCE, TARGET)
        for dtype in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(rough[0], exact[0], rtol=0.02)
    assert rough[0] != exact[0]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(rough[1])} == {"float32"}
    gradients = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree[1])]) for tree in (exact, rough)]
    cosine = np.dot(*gradients) / np.prod([np.linalg.norm(gradient) for gradient in gradients])
    assert cosine > 0.98


def test_bfloat16_parameters_are_used_without_further_rounding():
    model = MODELS["sinusoidal, pre, target, 1 + 2"]  # whose embeddings are scaled
    kept = jax.tree.map(lambda x: x.astype(jnp.bfloat16), Subject(model).params)
    widened = jax.tree.map(lambda x: x.astype(jnp.float32), kept)
    run = jax.jit(lambda params, *given: model.apply({"params": params}, *given, train=False))
    np.testing.assert_allclose(run(kept, SOURCE, TARGET), run(widened, SOURCE, TARGET), rtol=1e-5, atol=1e-6)


def test_activations_of_the_size_of_large_models_do_not_overflow():
    """Activations of the larger T5 models reach 1e5, beyond the range of float16 (65504)."""
    plain = dataclasses.replace(MODELS["relative bias"], config=with_dropout(MODELS["relative bias"].config, 0.0))
    params = Subject(plain).params
    for table in ("source_embedding", "target_embedding"):
        params[table]["table"] *= 1e6
    finite = {}
    for dtype in ("bfloat16", "float16"):
        found = jax.jit(jax.value_and_grad(loss_of(dataclasses.replace(plain, dtype=dtype))))(params, SOURCE, TARGET)
        finite[dtype] = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert finite == {"bfloat16": True, "float16": False}, "float16 overflows, so it is not offered"
