import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxformer_lite.plan.collectives import read_collectives
from flaxformer_lite.plan.hlo import read_program
from flaxformer_lite.plan.matmuls import read_matmuls

_MESH = Mesh(np.array(jax.devices()), ("x",))
_ROWS, _COLUMNS = PartitionSpec("x"), PartitionSpec(None, "x")


def _compiled(function, *arrays, result):
    shapes = [jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(_MESH, spec)) for shape, dtype, spec in arrays]
    program = jax.jit(function, out_shardings=NamedSharding(_MESH, result)).lower(*shapes).compile()
    return read_program(program.as_text())


@pytest.mark.parametrize(("dtype", "size"), [(jnp.bfloat16, 2), (jnp.float32, 4)])
def test_gathers_and_products_are_counted_in_the_dtype_of_a_cast(dtype, size):
    program = _compiled(
        lambda x, w: x.astype(dtype) @ w.astype(dtype),
        ((64, 16), jnp.float32, _ROWS),
        ((16, 24), jnp.float32, _COLUMNS),
        result=_ROWS,
    )
    (found,) = read_collectives(program, {"x": 8}, 8)
    assert (found.kind, found.bytes) == ("all-gather", 16 * 24 * size)
    (matmul,) = read_matmuls(program)
    assert matmul.flops == 2 * 8 * 16 * 24
    assert matmul.bytes == (8 * 16 + 16 * 24 + 8 * 24) * size


@pytest.mark.parametrize(("dtype", "size"), [(jnp.bfloat16, 2), (jnp.float32, 4)])
def test_reductions_are_counted_in_the_dtype_of_their_input(dtype, size):
    program = _compiled(lambda x: (x.T @ x) * 2, ((512, 16), dtype, _ROWS), result=PartitionSpec())
    (found,) = read_collectives(program, {"x": 8}, 8)
    assert (found.kind, found.bytes) == ("all-reduce", 16 * 16 * size)
