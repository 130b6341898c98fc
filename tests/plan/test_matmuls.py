import jax
import jax.numpy as jnp
import pytest

from flaxformer_lite.monitoring.flops import count_flops
from flaxformer_lite.plan.compile_step import compile_step, make_plan_layout, trace_step
from flaxformer_lite.plan.data_sizes import DataSizes
from flaxformer_lite.plan.hlo import read_program
from flaxformer_lite.plan.matmuls import read_matmuls
from tests.micro_config import micro

SIZES = DataSizes(32, 40, 7, 5, 0.0, 1.0, "")
_ROWS, _D, _F, _LAYERS, _DECODER_LAYERS = 8, 16, 24, 1, 2


def _by_hand() -> int:
    """FLOPs of a step: the products of each layer, and twice as many for their gradients."""
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


def test_flops_of_a_transformer():
    assert _traced({}).flops == {"float32": _by_hand()}


@pytest.mark.slow
def test_flops_are_divided_by_devices():
    compiled = compile_step(_traced({"mesh.data": 2, "mesh.fsdp": 2, "mesh.tensor": 2}, devices=8))
    assert sum(matmul.flops * matmul.runs for matmul in compiled.matmuls) * 8 == _by_hand()


def test_flops_of_a_loop_equal_the_unrolled_ones():
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
    matmuls = read_matmuls(read_program(jax.jit(jax.grad(scanned)).lower(x).compile().as_text()))
    assert sum(matmul.flops * matmul.runs for matmul in matmuls) == counts[0].total()


def test_flops_of_the_most_expensive_branch_by_dtype():
    def function(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x @ x @ x, x) + x.astype(jnp.bfloat16) @ x.astype(
            jnp.bfloat16
        )

    assert count_flops(jax.make_jaxpr(function)(jnp.ones((3, 3)))) == {"float32": 2 * 54, "bfloat16": 54}
