"""Optimizer settings per parameter, on the devices of a mesh, and across restarts."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.config.dataclasses import Config, MeshConfig, OptimConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.sharding.pmap_layout import PmapLayout
from flaxformer_lite.train_step.optimizers import frozen_mask, make_optimizer, make_schedule
from flaxformer_lite.train_step.state import init_params
from flaxformer_lite.train_step.step import UpdateStats
from flaxformer_lite.training.setup import make_training
from flaxformer_lite.types import Tokens
from tests.marks import slow_except
from tests.micro_config import micro, use_devices
from tests.sharding.test_many_devices import batch as make_batch
from tests.training_runs import UPDATE, Runs, assert_equal_records

_OPTIMIZERS = ("adamw", "adafactor", "lion", "muon")


class Wide(nn.Module):
    """A table, two projections of heads and a feed-forward layer, of sizes that Adafactor factors."""

    width: int = 128

    @nn.compact
    def __call__(self, source: Tokens, target_in: Tokens, train: bool) -> Any:
        normal, heads = nn.initializers.normal(0.1), ("heads", "head_dim")

        def named(*axes: str) -> Any:
            return nn.with_logical_partitioning(normal, axes)

        table = self.param("table", named("vocab", "embed"), (24, self.width))
        x = table[target_in.ids] + table[source.ids[:, :1]]
        x = jnp.einsum("btd,dhk->bthk", x, self.param("query", named("embed", *heads), (self.width, 4, 34)))
        x = jnp.tanh(x + self.param("query_bias", named(*heads), (4, 34)))
        x = jnp.einsum("bthk,hkd->btd", x, self.param("out", named(*heads, "embed"), (4, 34, self.width)))
        x = jnp.tanh(x @ self.param("up", named("embed", "mlp"), (self.width, 130)))
        return x @ self.param("down", named("mlp", "embed"), (130, self.width)) @ table.T


def _config(**values: Any) -> Config:
    changes = {"optim.warmup_steps": 0, "optim.schedule": "constant", "optim.learning_rate": 0.01}
    return micro(changes | {f"optim.{key}": value for key, value in values.items()})


def _run(layout: Any, config: Config, steps: int = 3) -> tuple[Any, list[UpdateStats]]:
    """The state after a few updates, and the statistics of each."""
    training, health = make_training(config, Wide(), []), []
    state = layout.init(training.init_state)
    update = layout.compile(training.step, jax.random.key(0), layout.shapes(training.init_state))
    for i in range(steps):
        state, (_, how) = update((), state, layout.shard_batch(make_batch(i)))
        health.append(jax.device_get(how))
    return layout.to_global(state), health


def _mesh(data: int, fsdp: int, tensor: int) -> MeshLayout:
    return MeshLayout(MeshConfig(data, fsdp, tensor), micro().logical_axis_rules, jax.devices()[: data * fsdp * tensor])


def _held(tree: Any) -> int:
    """Bytes on one device."""
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("optimizer", slow_except(("adafactor", "muon"), _OPTIMIZERS))
def test_every_optimizer_is_equal_on_a_mesh_with_sharded_state(optimizer):
    decay = {"weight_decay": 0.1, "no_decay": ("bias",), "lr_multipliers": ("^table=0.5",), "epsilon": 1e-4}
    config = _config(optimizer=optimizer, **decay)
    alone, _ = _run(_mesh(1, 1, 1), config)
    for layout in (_mesh(2, 2, 2), PmapLayout()):
        state, _ = _run(layout, config)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), state.params, alone.params)
        if isinstance(layout, MeshLayout):
            whole, held = _held(alone.opt_state), _held(state.opt_state)
            least = 0.5 if optimizer == "adafactor" else 0.25  # half of the parameters with one axis
            assert held < least * whole + 0.02 * whole + 600  # biases and scalars


def test_factored_moments_are_sharded_by_their_axes():
    training = make_training(_config(optimizer="adafactor"), Wide(), [])
    shapes = _mesh(2, 2, 2).shapes(training.init_state).opt_state
    (moments,) = [part for part in jax.tree.leaves(shapes, is_leaf=_is_factored) if _is_factored(part)]

    def shape_and_axes(tree: Any, name: str) -> tuple:
        return tree[name].shape, tuple(tree[name].sharding.spec)

    assert shape_and_axes(moments.v_row, "query") == ((128,), ("fsdp",))
    assert shape_and_axes(moments.v_col, "query") == ((136,), ("tensor",))  # 4 heads of 34
    assert shape_and_axes(moments.v_row, "out") == ((128,), ("fsdp",))
    assert shape_and_axes(moments.v_col, "out") == ((136,), ("tensor",))
    assert shape_and_axes(moments.v_row, "down") == ((128,), ("fsdp",))
    assert shape_and_axes(moments.v_col, "down") == ((130,), ("tensor",))
    assert shape_and_axes(moments.v, "table") == ((24, 128), ("tensor", "fsdp"))
    assert shape_and_axes(moments.v, "query_bias") == ((136,), ("tensor",))
    for tree, name in ((moments.v, "query"), (moments.v_row, "table"), (moments.v_col, "query_bias")):
        assert shape_and_axes(tree, name) == ((1,), (None,))


def _is_factored(part: Any) -> bool:
    return hasattr(part, "v_row")


@pytest.mark.parametrize("optimizer", slow_except(("adamw", "adafactor"), _OPTIMIZERS))
def test_frozen_parameters_are_unchanged_and_have_no_moments(optimizer):
    config = _config(optimizer=optimizer, weight_decay=0.1, frozen=("table", "query$"), clip_norm=0.01)
    state, health = _run(_mesh(1, 1, 1), config)
    start = _mesh(1, 1, 1).init(make_training(config, Wide(), []).init_state)
    for name in ("table", "query", "query_bias", "out", "up", "down"):
        stays = bool((state.params[name] == start.params[name]).all())
        assert stays == (name in ("table", "query"))
    sizes = {leaf.shape for leaf in jax.tree.leaves(state.opt_state)}
    assert not sizes & {(24, 128), (128, 4, 34)}
    free, freely = _run(_mesh(1, 1, 1), dataclasses.replace(config, optim=_config(optimizer=optimizer).optim), steps=1)
    assert health[0].gradient_norm < 0.9 * freely[0].gradient_norm, "the norm is that of what is trained"
    assert not (free.params["table"] == start.params["table"]).all()


def test_the_clipped_norm_is_that_of_trained_parameters():
    params = {"large": jnp.zeros(2), "small": jnp.zeros(2)}
    config = _config(optimizer="adamw", frozen=("large",), clip_norm=1.0, epsilon=1.0).optim
    gradients = {"large": jnp.full(2, 1e3), "small": jnp.array([0.5, 0.0])}
    updates = _first_update(config, params, gradients)
    np.testing.assert_allclose(updates["small"], [-0.01 * 0.5 / 1.5, 0], rtol=1e-5)  # unclipped
    np.testing.assert_array_equal(updates["large"], 0)


@pytest.mark.parametrize("optimizer", _OPTIMIZERS)
def test_learning_rates_and_weight_decay_depend_on_the_path(optimizer):
    ones = {"encoder": {"query": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "decoder": {"query": jnp.ones((2, 3))}}
    nothing = jax.tree.map(jnp.zeros_like, ones)
    rules = {"no_decay": ("bias$",), "lr_multipliers": ("^encoder/q=0.25", "encoder/=0.5", "decoder/query=2")}
    config = _config(optimizer=optimizer, weight_decay=0.1, **rules).optim
    decayed = _first_update(config, ones, nothing)
    np.testing.assert_allclose(decayed["encoder"]["query"], -0.01 * 0.1 * 0.25, rtol=1e-5)
    np.testing.assert_allclose(decayed["decoder"]["query"], -0.01 * 0.1 * 2, rtol=1e-5)
    np.testing.assert_array_equal(decayed["encoder"]["bias"], 0)
    even = _config(optimizer=optimizer).optim
    gradients = jax.tree.map(lambda x: np.random.default_rng(0).standard_normal(x.shape, np.float32), ones)
    updates = _first_update(even, ones, gradients)
    rated = _first_update(dataclasses.replace(even, lr_multipliers=config.lr_multipliers), ones, gradients)
    for part, name, factor in (("encoder", "query", 0.25), ("encoder", "bias", 0.5), ("decoder", "query", 2)):
        np.testing.assert_allclose(rated[part][name], factor * updates[part][name], rtol=1e-6)


def _first_update(config: OptimConfig, params: Any, gradients: Any) -> Any:
    optimizer = make_optimizer(config, make_schedule(config, 9), params)
    return optimizer.update(gradients, optimizer.init(params), params, value=1.0)[0]


@pytest.mark.parametrize(
    ("key", "pattern", "near"),
    [
        ("no_decay", "norms$", "/norm/"),
        ("frozen", "source_embeding", "source_embedding/table"),
        ("lr_multipliers", "encoder/layer_0/", "encoder/layers_0/"),
        ("frozen", "self_atention/query", "/self_attention/query"),
    ],
)
def test_a_pattern_without_match_is_an_error_with_similar_paths(key, pattern, near):
    config = _config(optimizer="adamw", weight_decay=0.1, **{key: (pattern + "=0.1" * (key == "lr_multipliers"),)})
    with pytest.raises(InputError) as error:
        make_training(config, make_model(config, 16, 24), [])
    assert f"config.optim.{key}: {pattern!r} matches no parameter's path" in str(error.value)
    assert near in str(error.value)


def test_freezing_all_parameters_is_an_error():
    config = _config(frozen=("e",))
    model = make_model(config, 16, 24)
    with pytest.raises(InputError, match=r"config\.optim\.frozen=\('e',\): leaves no parameter to train"):
        frozen_mask(config.optim, jax.eval_shape(lambda: init_params(model, 0)))


@pytest.mark.parametrize("optimizer", slow_except(("adafactor", "muon"), _OPTIMIZERS))
def test_every_optimizer_resumes_exactly(optimizer, tmp_path, monkeypatch, capsys):
    use_devices(monkeypatch, 1)
    runs = Runs(tmp_path, monkeypatch)
    plateau = {"plateau.factor": 0.5, "plateau.patience": 1, "plateau.window": 1}
    config = _config(optimizer=optimizer, schedule="plateau", frozen=("Embed_1",), **plateau)
    assert runs.start("whole", config) == 0
    assert "408 parameters (96 of them frozen) on 1" in capsys.readouterr().err
    rates = [line["train/learning_rate"] for line in runs.record("whole")[0] if "train/learning_rate" in line]
    applied = [float(saved.state.opt_state[2].scale) for saved in runs.saved["whole"]]
    assert rates[-1] == pytest.approx(0.01 * applied[-1])
    assert applied[-1] < 1
    runs.kill_at("killed", UPDATE, 7, config)
    assert runs.start("killed", config) == 0
    assert_equal_records(runs.record("killed"), runs.record("whole"))
