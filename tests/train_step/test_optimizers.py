import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxformer_lite.config import defaults
from flaxformer_lite.config.dataclasses import OptimConfig, PlateauConfig
from flaxformer_lite.config.parsing import from_dict
from flaxformer_lite.train_step.optimizers import make_optimizer, make_schedule, plateau_factor

_SCHEDULES = ("inverse_sqrt", "cosine", "linear", "constant", "wsd", "plateau")
_STEPS, _WARMUP, _DECAY, _PEAK = 90, 10, 25, 0.3


def _config(**values: object) -> OptimConfig:
    return dataclasses.replace(from_dict(defaults.get_config().to_dict()).optim, **values)


def _rates(schedule: str, warmup: int, steps: int = _STEPS) -> np.ndarray:
    """The learning rate of each update, and of one after the last."""
    config = _config(schedule=schedule, warmup_steps=warmup, learning_rate=_PEAK, decay_steps=_DECAY)
    rate = make_schedule(config, steps)
    return np.array([rate(i) for i in range(steps + 1)])


@pytest.mark.parametrize("schedule", _SCHEDULES)
def test_schedules_rise_linearly_to_the_peak_and_never_again(schedule):
    rates = _rates(schedule, _WARMUP)
    rise = np.arange(1, _WARMUP + 2) / (_WARMUP + 1) * _PEAK
    np.testing.assert_allclose(rates[: _WARMUP + 1], rise, rtol=1e-5)
    assert (np.diff(rates[_WARMUP:]) <= 0).all()
    assert np.abs(np.diff(rates)).max() < 1.01 * rise[0], "without a jump where the two parts meet"
    assert (rates[:-1] > 0).all(), "no update is wasted"


def test_inverse_sqrt_equals_the_formula_of_the_paper():
    rates = _rates("inverse_sqrt", _WARMUP)
    places = np.arange(_WARMUP, _STEPS + 1)
    np.testing.assert_allclose(rates[_WARMUP:], _PEAK * np.sqrt(_WARMUP / places), rtol=1e-5)
    assert rates[4 * _WARMUP] == pytest.approx(_PEAK / 2)


def test_decays_end_at_zero_and_are_halved_in_the_middle():
    for schedule in ("cosine", "linear"):
        rates = _rates(schedule, _WARMUP)
        assert rates[-1] == pytest.approx(0, abs=1e-8)
        assert rates[(_STEPS + _WARMUP) // 2] == pytest.approx(_PEAK / 2, rel=1e-5)
    quarter = _WARMUP + (_STEPS - _WARMUP) // 4
    assert _rates("cosine", _WARMUP)[quarter] == pytest.approx(_PEAK * (1 + math.sqrt(0.5)) / 2, rel=1e-5)
    assert (_rates("constant", _WARMUP)[_WARMUP:] == np.float32(_PEAK)).all()


def test_wsd_is_stable_and_then_decays_linearly():
    rates = _rates("wsd", _WARMUP)
    fall = _STEPS - _DECAY
    assert (rates[_WARMUP : fall + 1] == np.float32(_PEAK)).all()
    np.testing.assert_allclose(rates[fall:], _PEAK * np.arange(_DECAY, -1, -1) / _DECAY, rtol=1e-5, atol=1e-8)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("schedule", _SCHEDULES)
def test_without_warm_up_the_peak_comes_first(schedule):
    rates = _rates(schedule, 0)
    assert np.isfinite(rates).all()
    assert rates[0] == pytest.approx(_PEAK)
    assert (np.diff(rates) <= 0).all()


def test_a_run_may_end_within_its_warm_up():
    np.testing.assert_allclose(_rates("inverse_sqrt", 100, steps=4), _PEAK * np.arange(1, 6) / 101, rtol=1e-5)


def _after_one_update(config: OptimConfig, params: dict, gradients: dict) -> dict:
    optimizer = make_optimizer(config, make_schedule(config, _STEPS), params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


def test_gradients_are_clipped_by_their_global_norm():
    params = {"a": jnp.zeros(2), "b": jnp.zeros((2, 1))}
    small = {"a": jnp.array([0.3, 0.0]), "b": jnp.array([[0.0], [0.4]])}  # of norm 0.5
    large = jax.tree.map(lambda g: 40 * g, small)  # of norm 20
    coarse = {
        "warmup_steps": 0,
        "learning_rate": 1.0,
        "epsilon": 1.0,
    }  # updates depend on the size of gradients
    clipped = _after_one_update(_config(clip_norm=5.0, **coarse), params, large)
    expected = _after_one_update(_config(clip_norm=0.0, **coarse), params, jax.tree.map(lambda g: 10 * g, small))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), clipped, expected)
    for clip_norm in (5.0, 0.0):
        untouched = _after_one_update(_config(clip_norm=clip_norm, **coarse), params, small)
        jax.tree.map(
            lambda x, g: np.testing.assert_allclose(x, -g / (np.abs(g) + 1), rtol=1e-5, atol=1e-7), untouched, small
        )


def test_adam_equals_the_algorithm_of_the_paper():
    config = _config(optimizer="adam", clip_norm=0.0, warmup_steps=4, schedule="linear", beta1=0.8, beta2=0.9)
    params = {"w": jnp.array([1.0, -2.0, 0.5])}
    optimizer = make_optimizer(config, make_schedule(config, _STEPS), params)
    state = optimizer.init(params)
    x, m, v = np.array([1.0, -2.0, 0.5]), np.zeros(3), np.zeros(3)
    for i in range(6):
        gradient = np.random.default_rng(i).standard_normal(3)
        updates, state = optimizer.update({"w": jnp.asarray(gradient, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
        m, v = 0.8 * m + 0.2 * gradient, 0.9 * v + 0.1 * gradient**2
        rate = float(make_schedule(config, _STEPS)(i))
        x = x - rate * (m / (1 - 0.8 ** (i + 1))) / (np.sqrt(v / (1 - 0.9 ** (i + 1))) + config.epsilon)
        np.testing.assert_allclose(params["w"], x, rtol=1e-4)


def test_adamw_decays_weights_by_the_learning_rate_and_adam_does_not():
    values = {"clip_norm": 1.0, "warmup_steps": 0, "learning_rate": 0.5}
    params, nothing = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.zeros(2)}
    decayed = _after_one_update(_config(optimizer="adamw", weight_decay=0.1, **values), params, nothing)
    np.testing.assert_allclose(decayed["w"], [0.95, -1.9], rtol=1e-6)
    kept = _after_one_update(_config(optimizer="adam", **values), params, nothing)
    np.testing.assert_array_equal(kept["w"], params["w"])


def _named(axes: str, *shape: int) -> nn.LogicallyPartitioned:
    """A random parameter boxed with the names of its axes."""
    value = np.random.default_rng(shape).standard_normal(shape, np.float32)
    return nn.LogicallyPartitioned(jnp.asarray(value), tuple(axes.split()))


_UPDATES = 4


def _path_of(config: OptimConfig, boxed: dict) -> tuple[dict, list[dict]]:
    """The parameters after a few updates, and the gradients."""
    gradients = []
    for i in range(_UPDATES):
        draw = np.random.default_rng(i)
        # Uneven, to test the factored moments, and decreasing, to test the memory of moments.
        cubes = [draw.standard_normal(x.shape) ** 3 / 2**i for x in jax.tree.leaves(boxed)]
        gradients.append(jax.tree.unflatten(jax.tree.structure(nn.meta.unbox(boxed)), cubes))
    return _follow(config, boxed, gradients), gradients


def _follow(config: OptimConfig, boxed: dict, gradients: list[dict]) -> dict:
    optimizer = make_optimizer(config, make_schedule(config, _STEPS), boxed)
    params, state = nn.meta.unbox(boxed), nn.meta.unbox(optimizer.init(boxed))
    for gradient in gradients:
        single = jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), gradient)
        updates, state = optimizer.update(single, state, params, value=1.0)
        params = optax.apply_updates(params, updates)
    return params


_PLAIN = {"schedule": "constant", "warmup_steps": 0, "learning_rate": 0.1, "clip_norm": 0.0}


def _adafactor(x: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float, factored: bool) -> np.ndarray:
    """Algorithms 1, 4 and 6 of the paper, of a matrix or an unfactored parameter, with the constants of T5."""
    x, v, rows, columns = np.float64(x), 0, 0, 0
    for t, gradient in enumerate(gradients, start=1):
        beta, square = 1 - t**-0.8, gradient**2 + 1e-30
        if factored:
            rows = beta * rows + (1 - beta) * square.sum(1, keepdims=True)
            columns = beta * columns + (1 - beta) * square.sum(0, keepdims=True)
            v = rows * columns / rows.sum()
        else:
            v = beta * v + (1 - beta) * square
        update = gradient / np.sqrt(v)
        update /= max(1, np.sqrt((update**2).mean()))
        x = x - rate * (max(1e-3, np.sqrt((x**2).mean())) * update + decay * x)
    return x


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adafactor_equals_the_paper_with_the_settings_of_t5(decay):
    boxed = {
        "query": _named("embed heads head_dim", 130, 2, 66),  # T5's matrices, whose heads are one axis
        "out": _named("heads head_dim embed", 2, 65, 128),
        "kernel": _named("embed mlp", 128, 140),
        "narrow": _named("embed mlp", 127, 150),
        "bias": _named("embed", 200),
    }
    after, gradients = _path_of(_config(optimizer="adafactor", weight_decay=decay, **_PLAIN), boxed)
    sides = {"query": (130, 132), "out": (130, 128)}
    for name, box in boxed.items():
        shape = sides.get(name, box.value.shape)
        flat = [gradient[name].reshape(shape) for gradient in gradients]
        expected = _adafactor(box.value.reshape(shape), flat, 0.1, decay, name in ("query", "out", "kernel"))
        np.testing.assert_allclose(after[name].reshape(shape), expected, rtol=2e-4, atol=1e-5, err_msg=name)


def test_adafactor_updates_zeros_by_the_minimum_scale():
    boxed = {"w": nn.LogicallyPartitioned(jnp.zeros(3), ("embed",))}
    config = _config(optimizer="adafactor", **_PLAIN)
    optimizer = make_optimizer(config, make_schedule(config, _STEPS), boxed)
    state = nn.meta.unbox(optimizer.init(boxed))
    updates, _ = optimizer.update({"w": jnp.array([3.0, -0.1, 7.0])}, state, {"w": jnp.zeros(3)}, value=1.0)
    np.testing.assert_allclose(updates["w"], -0.1 * 1e-3 * np.array([1, -1, 1]), rtol=1e-5)


def test_lion_equals_the_algorithm_of_the_paper():
    boxed = {"w": _named("embed mlp", 3, 5), "b": _named("mlp", 5)}
    config = _config(optimizer="lion", beta1=0.7, beta2=0.8, weight_decay=0.2, **_PLAIN)
    after, gradients = _path_of(config, boxed)
    for name, box in boxed.items():
        x, m = np.float64(box.value), np.zeros(box.value.shape)
        for gradient in gradients:  # algorithm 2
            x = x - 0.1 * (np.sign(0.7 * m + 0.3 * gradient[name]) + 0.2 * x)
            m = 0.8 * m + 0.2 * gradient[name]
        np.testing.assert_allclose(after[name], x, rtol=1e-4, atol=1e-6)


def _muon(x: np.ndarray, gradients: list[np.ndarray], rate: float, beta: float, decay: float) -> np.ndarray:
    """Bias-corrected Nesterov momentum, five steps of the Newton-Schulz iteration, and the scale of AdamW."""
    x, m = np.float64(x), 0
    for t, gradient in enumerate(gradients, start=1):
        m = beta * m + (1 - beta) * gradient
        y = beta * m / (1 - beta ** (t + 1)) + (1 - beta) * gradient / (1 - beta**t)
        y = y / np.linalg.norm(y)
        for _ in range(5):
            a = y @ y.T
            y = 3.4445 * y + (-4.7750 * a + 2.0315 * a @ a) @ y
        x = x - rate * (0.2 * np.sqrt(max(x.shape)) * y + decay * x)
    return x


def test_muon_orthogonalizes_each_matrix():
    boxed = {
        "query": _named("embed heads head_dim", 6, 2, 5),
        "out": _named("heads head_dim embed", 2, 5, 7),
        "kernel": _named("embed mlp", 9, 4),
        "gates": _named("embed gates mlp", 6, 4, 5),
        "layers": _named("layers embed heads head_dim", 3, 6, 2, 2),
    }
    after, gradients = _path_of(_config(optimizer="muon", momentum=0.8, weight_decay=0.1, **_PLAIN), boxed)
    sides = {"query": (1, 6, 10), "out": (1, 10, 7), "kernel": (1, 9, 4), "layers": (3, 6, 4)}

    def matrices(name: str, x: np.ndarray) -> np.ndarray:
        return np.moveaxis(x, 1, 0) if name == "gates" else np.reshape(x, sides[name])

    for name, box in boxed.items():
        each = [matrices(name, gradient[name]) for gradient in gradients]
        for i, matrix in enumerate(matrices(name, np.asarray(box.value))):
            expected = _muon(matrix, [gradient[i] for gradient in each], 0.1, 0.8, 0.1)
            found = matrices(name, np.asarray(after[name]))[i]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4, err_msg=name)


def test_muon_uses_adamw_for_other_parameters():
    boxed = {
        "table": _named("vocab embed", 6, 5),
        "positions": _named("length embed", 4, 5),
        "output": _named("embed vocab", 5, 6),
        "query_bias": _named("heads head_dim", 2, 3),
        "cell_bias": _named("gates mlp", 4, 3),
        "scales": _named("layers embed", 4, 3),
    }
    same = {"weight_decay": 0.1, "beta1": 0.7, "beta2": 0.9, **_PLAIN}
    muon, _ = _path_of(_config(optimizer="muon", **same), boxed)
    adamw, _ = _path_of(_config(optimizer="adamw", **same), boxed)
    jax.tree.map(np.testing.assert_array_equal, muon, adamw)


@pytest.mark.parametrize("optimizer", ["adafactor", "muon", "lion", "adamw"])
def test_stacked_layers_are_updated_like_separate_ones(optimizer):
    stacked = {"w": _named("layers embed mlp", 3, 128, 130), "scale": _named("layers embed", 3, 5)}
    single = {"w": ("embed", "mlp"), "scale": ("embed",)}
    config = _config(optimizer=optimizer, weight_decay=0.1, **_PLAIN)
    together, gradients = _path_of(config, stacked)
    for i in range(3):
        boxed = {name: nn.LogicallyPartitioned(stacked[name].value[i], names) for name, names in single.items()}
        alone = _follow(config, boxed, [{name: gradient[name][i] for name in boxed} for gradient in gradients])
        for name, found in alone.items():
            np.testing.assert_allclose(together[name][i], found, rtol=1e-4, atol=1e-5)


def test_reduce_on_plateau_lowers_the_learning_rate_when_the_loss_stagnates():
    plateau = PlateauConfig(factor=0.5, patience=2, window=3)
    config = _config(**_PLAIN | {"schedule": "plateau"}, plateau=plateau, epsilon=0.0)
    params = {"w": jnp.zeros(2)}
    optimizer = make_optimizer(config, make_schedule(config, _STEPS), params)
    state, factors, moved = optimizer.init(params), [], []
    # Windows of mean 5, 4 (better), 4 and 4.5 (not better, although some losses are: halved), 3, 3, 3 (halved again)
    means = [5, 4, 4, 4.5, 3, 3, 3]
    for loss in [mean + off for mean in means for off in (-2, 0, 2)]:
        updates, state = optimizer.update({"w": jnp.array([1.0, -1.0])}, state, params, value=loss)
        factors.append(float(plateau_factor(state)))
        moved.append(-updates["w"][0])
    assert factors == [1] * 11 + [0.5] * 9 + [0.25]
    np.testing.assert_allclose(moved, 0.1 * np.array(factors), rtol=1e-4)  # Adam's steps of constant gradients are 1
    assert plateau_factor(make_optimizer(_config(), make_schedule(_config(), 9), params).init(params)) == 1
