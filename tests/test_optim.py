import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from flaxformer_lite.config import OptimConfig
from flaxformer_lite.optim import make_optimizer, make_schedule
from flaxformer_lite.schema import from_dict

_SCHEDULES = ("inverse_sqrt", "cosine", "linear", "constant")
_STEPS, _WARMUP, _PEAK = 90, 10, 0.3


def _config(**values: object) -> OptimConfig:
    return dataclasses.replace(from_dict(base.get_config().to_dict()).optim, **values)


def _rates(schedule: str, warmup: int, steps: int = _STEPS) -> np.ndarray:
    """The rate of each update, and of the one that would come after them."""
    rate = make_schedule(_config(schedule=schedule, warmup_steps=warmup, learning_rate=_PEAK), steps)
    return np.array([rate(i) for i in range(steps + 1)])


@pytest.mark.parametrize("schedule", _SCHEDULES)
def test_rates_rise_evenly_to_the_peak_and_never_again(schedule):
    rates = _rates(schedule, _WARMUP)
    rise = np.arange(1, _WARMUP + 2) / (_WARMUP + 1) * _PEAK
    np.testing.assert_allclose(rates[: _WARMUP + 1], rise, rtol=1e-5)
    assert (np.diff(rates[_WARMUP:]) <= 0).all()
    assert np.abs(np.diff(rates)).max() < 1.01 * rise[0], "without a jump where the two parts meet"
    assert (rates[:-1] > 0).all(), "no update is wasted"


def test_inverse_sqrt_is_that_of_the_paper():
    rates = _rates("inverse_sqrt", _WARMUP)
    places = np.arange(_WARMUP, _STEPS + 1)
    np.testing.assert_allclose(rates[_WARMUP:], _PEAK * np.sqrt(_WARMUP / places), rtol=1e-5)
    assert rates[4 * _WARMUP] == pytest.approx(_PEAK / 2)


def test_falls_end_at_zero_and_are_half_down_in_the_middle():
    for schedule in ("cosine", "linear"):
        rates = _rates(schedule, _WARMUP)
        assert rates[-1] == pytest.approx(0, abs=1e-8)
        assert rates[(_STEPS + _WARMUP) // 2] == pytest.approx(_PEAK / 2, rel=1e-5)
    quarter = _WARMUP + (_STEPS - _WARMUP) // 4
    assert _rates("cosine", _WARMUP)[quarter] == pytest.approx(_PEAK * (1 + math.sqrt(0.5)) / 2, rel=1e-5)
    assert (_rates("constant", _WARMUP)[_WARMUP:] == np.float32(_PEAK)).all()


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
    optimizer = make_optimizer(config, make_schedule(config, _STEPS))
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


def test_gradients_are_clipped_by_their_global_norm():
    params = {"a": jnp.zeros(2), "b": jnp.zeros((2, 1))}
    small = {"a": jnp.array([0.3, 0.0]), "b": jnp.array([[0.0], [0.4]])}  # of norm 0.5
    large = jax.tree.map(lambda g: 40 * g, small)  # of norm 20
    coarse = {"warmup_steps": 0, "learning_rate": 1.0, "epsilon": 1.0}  # a large ε, so that sizes show
    clipped = _after_one_update(_config(clip_norm=5.0, **coarse), params, large)
    expected = _after_one_update(_config(clip_norm=0.0, **coarse), params, jax.tree.map(lambda g: 10 * g, small))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), clipped, expected)
    for clip_norm in (5.0, 0.0):
        untouched = _after_one_update(_config(clip_norm=clip_norm, **coarse), params, small)
        jax.tree.map(
            lambda x, g: np.testing.assert_allclose(x, -g / (np.abs(g) + 1), rtol=1e-5, atol=1e-7), untouched, small
        )


def test_adam_is_that_of_the_paper():
    config = _config(optimizer="adam", clip_norm=0.0, warmup_steps=4, schedule="linear", beta1=0.8, beta2=0.9)
    optimizer = make_optimizer(config, make_schedule(config, _STEPS))
    params = {"w": jnp.array([1.0, -2.0, 0.5])}
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


def test_adamw_decays_by_the_rate_and_adam_does_not():
    values = {"clip_norm": 1.0, "warmup_steps": 0, "learning_rate": 0.5}
    params, nothing = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.zeros(2)}
    decayed = _after_one_update(_config(optimizer="adamw", weight_decay=0.1, **values), params, nothing)
    np.testing.assert_allclose(decayed["w"], [0.95, -1.9], rtol=1e-6)
    kept = _after_one_update(_config(optimizer="adam", **values), params, nothing)
    np.testing.assert_array_equal(kept["w"], params["w"])
