import jax
import jax.numpy as jnp
import pytest

from flaxformer_lite.plan.hlo import Shape, read_groups, read_program


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,2},{1,3}}, use_global_device_ids=true", ((0, 2), (1, 3))),
        ("replica_groups={}, dimensions={0}", ((0, 1, 2, 3),)),
        ("replica_groups=[2,2]<=[4], dimensions={0}", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[2,2]T(1,0), dimensions={0}", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}, dimensions={0}", ((0, 1), (2, 3))),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}, metadata={}", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", ((0, 1, 2, 3),)),
        ("replica_groups=mesh['a'=4] {'a':(1)2}", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=4] {'a':(2)2}", ((0, 1), (2, 3))),
        ("source_target_pairs={{0,1},{1,2}}, metadata={}", ((0, 1), (1, 2))),
    ],
)
def test_device_groups_in_all_notations(text, groups):
    assert read_groups(f", channel_id=1, {text}", 4) == groups


@pytest.mark.parametrize(
    ("dtype", "sizes", "size"),
    [
        ("f32", (3, 5), 60),
        ("bf16", (7,), 14),
        ("pred", (3,), 3),
        ("s4", (4,), 2),
        ("f8e4m3fn", (3,), 3),
        ("u64", (), 8),
    ],
)
def test_bytes_of_a_shape(dtype, sizes, size):
    assert Shape(dtype, sizes).bytes == size


def test_nested_loops_multiply_executions():
    def inner(x, w):
        return jnp.tanh(x @ w), None

    def outer(x, w):
        return jax.lax.scan(inner, x, w)[0], None

    weights = jnp.ones((3, 5, 7, 7))
    text = jax.jit(lambda x: jax.lax.scan(outer, x, weights)[0]).lower(jnp.ones((2, 7))).compile().as_text()
    program = read_program(text)
    assert [runs for _, instruction, runs in program.instructions() if instruction.opcode == "dot"] == [15]
    assert not program.unbounded_loops


def test_unbounded_loops_are_listed():
    def grow(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 100, lambda x: x @ x, x)

    program = read_program(jax.jit(grow).lower(2 * jnp.eye(3)).compile().as_text())
    assert len(program.unbounded_loops) == 1
    assert [runs for _, instruction, runs in program.instructions() if instruction.opcode == "dot"] == [1]
