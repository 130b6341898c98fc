import dataclasses
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxformer_lite.train_step import losses
from flaxformer_lite.train_step.objective import Objective, Sums
from flaxformer_lite.train_step.state import TrainState, init_state, with_ema
from flaxformer_lite.train_step.step import TrainStep, evaluation_step
from flaxformer_lite.types import Batch
from tests.sharding.test_many_devices import batch as make_batch
from tests.toy_model import Pairs, PairsWithoutDropout


def _loss(logits: Any, labels: Any, weights: Any) -> Any:
    return losses.cross_entropy(logits, labels, weights, 0.1)


def _batch(seed: int = 0) -> Batch:
    return jax.tree.map(jnp.asarray, make_batch(seed))


_ADAM = TrainStep(Objective(PairsWithoutDropout(), _loss), optax.adam(0.1), ema_decay=0.3)
_BAD = _batch()._replace(weights=jnp.where(_batch().weights > 0, jnp.nan, 0))
_update = jax.jit(lambda state, batch: _ADAM((), state, batch, jax.random.key(0)))


def _start() -> TrainState:
    return with_ema(init_state(Pairs(), _ADAM.optimizer, 0))


def _run(batches: list[Batch]) -> list[TrainState]:
    """The states before, between and after the updates."""
    states = [_start()]
    for batch in batches:
        states.append(_update(states[-1], batch)[0])
    return states


def _same(one: Any, other: Any) -> bool:
    return jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), one, other))


def test_updates_that_are_not_finite_are_skipped_and_counted():
    one, two = _batch(1), _batch(2)
    start, first, *bad, second = _run([one, _BAD, _BAD, two])
    assert not _same(start.params, first.params)
    for state in bad:
        assert _same((state.params, state.opt_state, state.ema), (first.params, first.opt_state, first.ema))
    counts = [(int(s.step), int(s.skipped), int(s.skipped_total)) for s in (start, first, *bad, second)]
    assert counts == [(0, 0, 0), (1, 0, 0), (2, 1, 1), (3, 2, 2), (4, 0, 2)]
    without = _run([one, two])[-1]
    assert _same((second.params, second.opt_state, second.ema), (without.params, without.opt_state, without.ema))


def test_the_moving_average_is_a_recursion_over_applied_updates():
    batches = [_batch(1), _batch(2), _BAD, _batch(3), _batch(4), _batch(5)]
    start, *states = _run(batches)
    assert _same(start.ema, start.params)
    applied = [state for state, batch in zip(states, batches, strict=True) if batch is not _BAD]
    expected = jax.tree.map(np.float64, start.params)
    for n, state in enumerate(applied):
        decay = min(0.3, (1 + n) / (10 + n))  # 0.1, 0.18, 0.25, and then the 0.3 of the config
        expected = jax.tree.map(lambda mean, new, d=decay: d * mean + (1 - d) * np.float64(new), expected, state.params)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), state.ema, expected)
    assert states[-1].eval_params is states[-1].ema


def test_dropout_keys_are_a_function_of_the_step():
    step = TrainStep(Objective(Pairs(), _loss), optax.sgd(0.0))
    start = init_state(Pairs(), step.optimizer, 0)

    def losses_of(axis_name: str | None) -> list[float]:
        update = jax.jit(lambda state: step((), state, _batch(), jax.random.key(0), axis_name))
        if axis_name:
            mapped = jax.vmap(lambda state, _: update(state), (None, 0), 0, axis_name=axis_name)
            return [float(mapped(start._replace(step=jnp.int32(i)), jnp.arange(2))[1][0].loss[0]) for i in range(3)]
        return [float(update(start._replace(step=jnp.int32(i)))[1][0].loss) for i in range(3)]

    one, other = losses_of(None), losses_of(None)
    assert one == other
    assert len(set(one)) == 3
    assert all(abs(both - 2 * single) > 1e-3 for both, single in zip(losses_of("shards"), one, strict=True))


def test_without_a_decay_there_is_no_average():
    step = TrainStep(Objective(Pairs(), _loss), optax.sgd(0.1))
    state = init_state(Pairs(), step.optimizer, 0)
    new, *_ = jax.jit(lambda state: step((), state, _batch(), jax.random.key(0)))(state)
    assert new.ema == state.ema == ()
    assert new.eval_params is new.params


def test_update_stats_record_whether_the_update_was_applied():
    state = _start()
    _, (sums, health) = _update(state, _batch())
    assert health.applied == 1
    assert 0 < health.gradient_norm < 10
    assert np.isfinite(sums.loss)
    _, (sums, health) = _update(state, _BAD)
    assert health.applied == 0
    assert np.isnan(sums.loss)


def test_reduce_on_plateau_reads_the_label_loss_of_applied_updates():
    plateau = optax.contrib.reduce_on_plateau(0.5, patience=1)
    step = TrainStep(Objective(Pairs(), _loss, label_weight=7.0), optax.chain(optax.adam(100.0), plateau))
    update = jax.jit(lambda state, batch: step((), state, batch, jax.random.key(0)))
    state, losses_, factors = init_state(Pairs(), step.optimizer, 0), [], []
    for batch in (_batch(1), _BAD, _batch(1)):  # the first update increases the loss
        state, (sums, health) = update(state, batch)
        losses_.append(sums.loss / sums.weight)
        factors.append(float(health.plateau_factor))
        np.testing.assert_allclose(state.opt_state[-1].best_value, losses_[0], rtol=1e-6)
    assert losses_[2] > losses_[0]
    assert factors == [1, 1, 0.5]


def test_frozen_parameters_have_gradient_zero():
    objective = Objective(PairsWithoutDropout(), _loss)
    state = init_state(Pairs(), optax.sgd(1.0), 0)
    frozen = jax.tree.map_with_path(lambda path, _: "Dense" in str(path), state.params)

    def gradient(params: Any, of: Any) -> Any:
        return jax.grad(lambda x: of.loss_fn(x, (), _batch(), jax.random.key(0)).objective)(params)

    free, held = (gradient(state.params, of) for of in (objective, dataclasses.replace(objective, frozen=frozen)))
    jax.tree.map(lambda x, y, off: np.testing.assert_array_equal(y, 0 * x if off else x), free, held, frozen)


def test_a_non_finite_gradient_of_a_finite_loss_is_skipped():
    def edge(logits: Any, labels: Any, weights: Any) -> Any:
        return jnp.sqrt(0 * logits).sum(), weights.sum()  # 0, with a slope of 0 · ∞

    step = TrainStep(Objective(Pairs(), edge), optax.sgd(0.1))
    state = init_state(Pairs(), step.optimizer, 0)
    new, (sums, health) = jax.jit(lambda state: step((), state, _batch(), jax.random.key(0)))(state)
    assert sums.loss == 0
    assert not np.isfinite(health.gradient_norm)
    assert health.applied == 0
    assert _same(new.params, state.params)


def _sgd_update(batch: Batch, axis_name: str | None = None) -> tuple[Any, Sums, Any]:
    """Parameters after one update of gradient descent."""
    step = TrainStep(Objective(PairsWithoutDropout(), _loss), optax.sgd(1.0))
    new, (sums, health) = step((), init_state(Pairs(), step.optimizer, 0), batch, jax.random.key(0), axis_name)
    return new.params, sums, health


def test_the_gradient_is_that_of_the_mean_over_tokens():
    batch = _batch()
    params = init_state(Pairs(), optax.sgd(1.0), 0).params

    def mean(params: Any) -> Any:
        logits: Any = Pairs().apply({"params": params}, batch.source, batch.target_in, train=False)
        each = optax.softmax_cross_entropy(logits, optax.smooth_labels(jax.nn.one_hot(batch.labels, 24), 0.1))
        return (each * batch.weights).sum() / batch.weights.sum()

    gradients = jax.grad(mean)(params)
    new, sums, health = jax.jit(_sgd_update)(batch)
    jax.tree.map(lambda x, p, g: np.testing.assert_allclose(x, p - g, atol=1e-6), new, params, gradients)
    np.testing.assert_allclose(sums.loss / sums.weight, mean(params), rtol=1e-5)
    np.testing.assert_allclose(health.gradient_norm, optax.tree.norm(gradients), rtol=1e-5)


@pytest.mark.parametrize("shares", [[4, 4], [1, 1, 6]])
def test_uneven_shards_of_a_batch_give_the_same_update(shares):
    batch = _batch()
    whole, sums, _ = jax.jit(_sgd_update)(batch)
    edges = np.cumsum([0, *shares])
    parts = [jax.tree.map(lambda x, i=i, j=j: x[i:j], batch) for i, j in pairwise(edges)]
    filled = [jax.tree.map(lambda x: np.pad(x, ((0, 6 - len(x)), *[(0, 0)] * (x.ndim - 1))), part) for part in parts]
    stacked = jax.tree.map(lambda *x: np.stack(x), *filled)  # rows of padding make the shards equal
    together = jax.vmap(lambda part: _sgd_update(part, "shards"), axis_name="shards")
    new, shared, _ = jax.jit(together)(stacked)
    for share in range(len(shares)):
        jax.tree.map(lambda x, y, i=share: np.testing.assert_allclose(x[i], y, atol=1e-6), new, whole)
    np.testing.assert_allclose(np.array(shared)[:, 0], np.array(sums), rtol=1e-6)


def test_an_empty_batch_changes_no_parameter():
    empty = _batch()._replace(weights=jnp.zeros((8, 5)))
    new, sums, health = jax.jit(_sgd_update)(empty)
    assert tuple(sums) == (0, 0, 0, 0)
    assert health.applied == 1
    before = init_state(Pairs(), optax.sgd(1.0), 0).params
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), new, before)


def test_the_evaluation_step_counts_hits_at_positions_with_weight():
    batch = _batch()
    params = init_state(Pairs(), optax.sgd(1.0), 0).params
    logits: Any = Pairs().apply({"params": params}, batch.source, batch.target_in, train=False)
    right = logits.argmax(-1)
    for labels, expected in ((right, batch.weights.sum()), ((right + 1) % 24, 0)):
        sums = evaluation_step(Objective(Pairs(), _loss), params, batch._replace(labels=labels))
        assert (sums.correct, sums.weight) == (expected, batch.weights.sum())
