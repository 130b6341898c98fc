"""The training objective of a toy model: terms, R-Drop, parts of a batch, layouts."""

import dataclasses
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxformer_lite.config.dataclasses import MeshConfig, TrainConfig
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.sharding.pmap_layout import PmapLayout
from flaxformer_lite.train_step import losses
from flaxformer_lite.train_step.objective import Objective, Sums, label_objective, make_objective
from flaxformer_lite.train_step.state import TrainState, init_params, init_state
from flaxformer_lite.train_step.step import TrainStep
from flaxformer_lite.types import Batch
from tests.micro_config import micro
from tests.sharding.test_many_devices import batch as make_batch
from tests.toy_model import Pairs, PairsWithoutDropout

KEY = jax.random.key(5)
BATCH: Batch = jax.tree.map(jnp.asarray, make_batch())
TEACHERS = (PairsWithoutDropout(width=9), PairsWithoutDropout(width=4))  # of other sizes than the student
TAUGHT = [jax.tree.map(lambda x: 3 * x, init_params(model, seed)) for seed, model in enumerate(TEACHERS)]
PARAMS = init_params(Pairs(), 7)


def config(**changes: Any) -> TrainConfig:
    """Labels smoothed by a tenth; ``distill`` as (weight, temperature)."""
    train = micro({"train.label_smoothing": 0.1}).train
    if "distill" in changes:
        weight, temperature = changes["distill"]
        changes["distill"] = dataclasses.replace(train.distill, weight=weight, temperature=temperature)
    return dataclasses.replace(train, **changes)


def compiled(objective: Any) -> Any:
    return jax.jit(lambda params, teachers: objective.loss_fn(params, teachers, BATCH, KEY))


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def logits_of(model: Any, params: Any, key: Any = None) -> np.ndarray:
    rngs = {"dropout": key} if key is not None else {}
    return np.float64(model.apply({"params": params}, BATCH.source, BATCH.target_in, train=key is not None, rngs=rngs))


def by_hand(logits: np.ndarray, z: float, weight: float, temperature: float) -> tuple[float, float]:
    """Label loss and objective of these logits, in float64 from the papers' formulas."""
    weights, size = np.float64(BATCH.weights), logits.shape[-1]
    smoothed = 0.9 * np.eye(size)[np.asarray(BATCH.labels)] + 0.1 / size
    label = -(smoothed * log_softmax(logits)).sum(-1)
    teacher_logits = [logits_of(*teacher) for teacher in zip(TEACHERS, TAUGHT, strict=True)]
    teacher = np.mean([np.exp(log_softmax(of_one / temperature)) for of_one in teacher_logits], axis=0)
    taught = temperature**2 * (teacher * (np.log(teacher) - log_softmax(logits / temperature))).sum(-1)
    log_sum = np.log(np.exp(logits).sum(-1))
    objective = (1 - weight) * label + weight * taught + z * log_sum**2
    return (label * weights).sum(), (objective * weights).sum()


@pytest.mark.parametrize(("z", "weight", "temperature"), [(0.0, 0.3, 1.0), (0.01, 1.0, 2.5), (0.1, 0.0, 0.5)])
def test_terms_are_weighted_by_the_config(z, weight, temperature):
    objective = make_objective(PairsWithoutDropout(), config(z_loss=z, distill=(weight, temperature)), TEACHERS)
    sums = compiled(objective)(PARAMS, TAUGHT)
    label, whole = by_hand(logits_of(PairsWithoutDropout(), PARAMS), z, weight, temperature)
    np.testing.assert_allclose(sums.loss, label, rtol=1e-5)
    np.testing.assert_allclose(sums.objective, whole, rtol=1e-5)
    assert sums.weight == BATCH.weights.sum()


def test_by_default_the_objective_is_bitwise_the_label_loss():
    sums = compiled(make_objective(Pairs(), config(), ()))(PARAMS, ())
    assert sums.objective == sums.loss > 0


@pytest.mark.parametrize("loss", ["cross_entropy", "kl_divergence"])
def test_the_config_sets_the_label_loss_and_its_smoothing(loss):
    logits = jax.random.normal(KEY, (8, 5, 24))
    sums = label_objective(PairsWithoutDropout(), config(loss=loss, label_smoothing=0.3)).token_loss(logits, BATCH)
    expected, weight = getattr(losses, loss)(logits, BATCH.labels, BATCH.weights, 0.3)
    assert (sums.loss, sums.weight, sums.objective) == (expected, weight, expected)


def test_r_drop_is_the_mean_of_two_passes_plus_their_divergence():
    objective = make_objective(Pairs(), config(r_drop=0.7, z_loss=0.01, distill=(0.4, 2.0)), TEACHERS)
    sums = compiled(objective)(PARAMS, TAUGHT)
    one, other = (logits_of(Pairs(), PARAMS, key) for key in jax.random.split(KEY))
    assert abs(one - other).max() > 0.1  # otherwise dropout drew the same masks twice
    label, whole = np.mean([by_hand(logits, 0.01, 0.4, 2.0) for logits in (one, other)], axis=0)
    p, q = log_softmax(one), log_softmax(other)
    divergences = (np.exp(p) * (p - q)).sum(-1) + (np.exp(q) * (q - p)).sum(-1)
    np.testing.assert_allclose(sums.loss, label, rtol=1e-5)
    np.testing.assert_allclose(sums.objective, whole + 0.7 / 4 * (divergences * BATCH.weights).sum(), rtol=1e-5)
    hits = [(logits.argmax(-1) == BATCH.labels) * BATCH.weights for logits in (one, other)]
    np.testing.assert_allclose(sums.correct, np.mean(hits, axis=0).sum())
    assert sums.weight == BATCH.weights.sum()


def test_r_drop_without_dropout_is_one_pass():
    each = (make_objective(PairsWithoutDropout(), config(r_drop=r_drop)) for r_drop in (2.0, 0.0))
    twice, once = (jax.jit(jax.grad(lambda p, of=of: of.loss_fn(p, (), BATCH, KEY).objective))(PARAMS) for of in each)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), twice, once)


def test_distillation_from_the_same_model_has_gradient_zero():
    objective = make_objective(PairsWithoutDropout(), config(distill=(1.0, 1.0)), [PairsWithoutDropout()])

    def of(params: Any) -> tuple[Any, Sums]:
        sums = objective.loss_fn(params, [PARAMS], BATCH, KEY)
        return sums.objective, sums

    gradients, sums = jax.jit(jax.grad(of, has_aux=True))(PARAMS)
    np.testing.assert_allclose(sums.objective, 0, atol=1e-5)
    assert sums.loss > 10
    assert all(abs(leaf).max() < 1e-5 for leaf in jax.tree.leaves(gradients))


def train(step: TrainStep, layout: Any, taught: Any, steps: int) -> np.ndarray:
    """The sums of each step."""

    def start() -> TrainState:
        return init_state(step.objective.model, step.optimizer, 7)

    state, update = layout.init(start), layout.compile(step, KEY, layout.shapes(start))
    fixed, batch = layout.to_layout(taught), layout.shard_batch(make_batch())
    each = []
    for _ in range(steps):
        state, (sums, _) = update(fixed, state, batch)
        each.append(jax.device_get(sums))
    return np.array(each)


def mesh(data: int, fsdp: int) -> MeshLayout:
    return MeshLayout(MeshConfig(data, fsdp, 1), devices=jax.devices()[: data * fsdp])


def test_a_student_with_weight_1_converges_to_its_teacher():
    """The weight of the labels is 0."""
    objective = make_objective(PairsWithoutDropout(width=12), config(distill=(1.0, 1.0)), TEACHERS[:1])
    sums = train(TrainStep(objective, optax.adam(0.05)), mesh(1, 1), TAUGHT[:1], 150)
    divergence = sums[:, 3] / sums[:, 2]
    assert divergence[0] > 0.5
    assert divergence[-1] < 0.02


def test_distillation_is_equal_in_every_layout():
    objective = make_objective(PairsWithoutDropout(), config(z_loss=0.01, r_drop=1.0, distill=(0.5, 2.0)), TEACHERS)
    step = TrainStep(objective, optax.adam(0.05, eps=1e-3), ema_decay=0.0)
    one, *others = (train(step, layout, TAUGHT, 4) for layout in (mesh(1, 1), mesh(4, 2), PmapLayout()))
    assert one[3, 3] < one[0, 3]
    for other in others:
        np.testing.assert_allclose(other, one, rtol=1e-5)


def test_parts_of_a_batch_add_up_and_padding_changes_nothing():
    objective = make_objective(PairsWithoutDropout(), config(z_loss=0.01, r_drop=1.0, distill=(0.5, 2.0)), TEACHERS)
    of = jax.jit(jax.value_and_grad(lambda params, batch: objective.loss_fn(params, TAUGHT, batch, KEY).objective))
    whole, slope = of(PARAMS, BATCH)
    parts = [of(PARAMS, jax.tree.map(lambda x, i=i, j=j: x[i:j], BATCH)) for i, j in pairwise([0, 1, 8])]
    np.testing.assert_allclose(sum(value for value, _ in parts), whole, rtol=1e-5)
    together = jax.tree.map(lambda *x: sum(x), *(gradient for _, gradient in parts))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), together, slope)
    filled = jax.tree.map(lambda x: jnp.pad(x, [(0, 2)] + [(0, 3)] * (x.ndim - 1)), BATCH)
    filled = filled._replace(labels=jnp.where(filled.weights > 0, filled.labels, 9))
    value, gradient = of(PARAMS, filled)
    np.testing.assert_allclose(value, whole, rtol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), gradient, slope)


def test_teachers_are_arguments_of_the_program_and_run_once_for_both_passes():
    step = TrainStep(make_objective(Pairs(), config(r_drop=1.0, distill=(0.5, 1.0)), TEACHERS[:1]), optax.sgd(0.1))
    state = init_state(Pairs(), step.optimizer, 0)
    program = jax.make_jaxpr(step)(TAUGHT[:1], state, BATCH, KEY)
    held = [np.shape(constant) for constant in program.consts]
    assert not [shape for shape in held if np.prod(shape) > 1]
    text = str(program)
    assert text.count("f32[8,5,9]") > 0  # rows of the teacher's width
    assert "f32[2,8,5,9]" not in text
    assert "f32[2,8,5,6]" in text  # the student's, of both passes


def test_without_further_terms_the_objective_is_the_label_loss():
    logits = jax.random.normal(KEY, (8, 5, 24))
    made = Objective(
        PairsWithoutDropout(), lambda logits, labels, weights: ((logits.mean(-1) * weights).sum(), weights.sum())
    )
    sums = made.token_loss(logits, BATCH)
    assert sums.objective == sums.loss
