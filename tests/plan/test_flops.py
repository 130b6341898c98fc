import jax
import jax.numpy as jnp

from flaxformer_lite.monitoring.flops import count_flops
from flaxformer_lite.plan.flops import read_products
from flaxformer_lite.plan.hlo import read_program
from flaxformer_lite.plan.programs import compile_step, make_plan_layout, trace_step
from flaxformer_lite.plan.sizes import Sizes
from tests.micro_config import micro

SIZES = Sizes(32, 40, 7, 5, 0.0, 1.0, "")
_ROWS, _D, _F, _LAYERS, _DECODER_LAYERS = 8, 16, 24, 1, 2


def _by_hand() -> int:
    """Of one step: the products of each layer, and twice as many for their gradients."""
    s, t = SIZES.source_length, SIZES.target_length
    encoder = 4 * s * _D * _D + 2 * s * s * _D + 2 * s * _D * _F
    attention = 4 * t * _D * _D + 2 * t * t * _D
    to_source = 2 * t * _D * _D + 2 * s * _D * _D + 2 * t * s * _D
    decoder = attention + to_source + 2 * t * _D * _F
    logits = t * _D * SIZES.target_vocabulary
    return 3 * 2 * _ROWS * (_LAYERS * encoder + _DECODER_LAYERS * decoder + logits)


def _traced(changes, devices=1):
    config = micro({"model.decoder.num_layers": _DECODER_LAYERS, **changes})
    return trace_step(config, SIZES, make_plan_layout(config, jax.devices()[:devices]))


def test_a_transformer_counts_as_by_hand():
    assert _traced({}).flops == {"float32": _by_hand()}


def test_each_device_has_its_share():
    compiled = compile_step(_traced({"mesh.data": 2, "mesh.fsdp": 2, "mesh.tensor": 2}, devices=8))
    assert sum(product.flops * product.runs for product in compiled.products) * 8 == _by_hand()


def test_a_loop_counts_as_its_rounds_do():
    weights = jnp.ones((5, 7, 7))

    def scanned(x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0].sum()

    def unrolled(x):
        for w in weights:
            x = jnp.tanh(x @ w)
        return x.sum()

    x = jnp.ones((3, 7))
    counts = [count_flops(jax.make_jaxpr(jax.grad(function))(x)) for function in (scanned, unrolled)]
    assert counts[0] == counts[1] == {"float32": 2 * 5 * 2 * 3 * 7 * 7}
    products = read_products(read_program(jax.jit(jax.grad(scanned)).lower(x).compile().as_text()))
    assert sum(product.flops * product.runs for product in products) == counts[0].total()


def test_of_branches_the_dearest_counts_and_dtypes_are_told_apart():
    def function(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x @ x @ x, x) + x.astype(jnp.bfloat16) @ x.astype(
            jnp.bfloat16
        )

    assert count_flops(jax.make_jaxpr(function)(jnp.ones((3, 3)))) == {"float32": 2 * 54, "bfloat16": 54}
