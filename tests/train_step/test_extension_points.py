"""Loss terms, optimizers and schedules that the config names by import path."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.train_step.objective import make_objective
from flaxformer_lite.train_step.optimizers import make_optimizer, make_schedule
from flaxformer_lite.train_step.state import init_params
from tests.micro_config import micro
from tests.sharding.test_many_devices import batch as make_batch
from tests.toy_model import PairsWithoutDropout

_HERE = "tests.train_step.test_extension_points"
PARAMS = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[3.0]])}
GRADIENTS = {"a": jnp.array([0.5, 2.0]), "b": jnp.array([[-1.0]])}


@dataclasses.dataclass(frozen=True)
class LogitPenalty:
    """The squared logits, times an option."""

    scale: float

    def __call__(self, logits, batch):
        return self.scale * (jnp.square(logits).sum(-1) * batch.weights).sum(), batch.weights.sum()


def mean_logit(logits, batch):
    return (logits.mean(-1) * batch.weights).sum(), batch.weights.sum()


@dataclasses.dataclass(frozen=True)
class Momentum:
    decay: float = 0.5

    def __call__(self, learning_rate):
        return optax.sgd(learning_rate, momentum=self.decay)


@dataclasses.dataclass(frozen=True)
class Steps:
    """A rate that falls by a factor every tenth of the run."""

    learning_rate: float
    steps: int
    factor: float = 0.5

    def __call__(self, step):
        return self.learning_rate * self.factor ** (10 * step // self.steps)


def test_loss_terms_are_added_to_the_objective():
    terms = {
        "train.loss_terms": (f"{_HERE}:LogitPenalty", f"{_HERE}:mean_logit"),
        "train.loss_options": {"LogitPenalty": {"scale": 0.25}},
    }
    model, batch = PairsWithoutDropout(), jax.tree.map(jnp.asarray, make_batch())
    params = init_params(model, 7)
    objective = make_objective(model, micro(terms).train)
    sums = jax.jit(lambda params: objective.loss_fn(params, (), batch, jax.random.key(0)))(params)
    logits = model.apply({"params": params}, batch.source, batch.target_in, train=False)
    expected = LogitPenalty(0.25)(logits, batch)[0] + mean_logit(logits, batch)[0]
    np.testing.assert_allclose(sums.objective - sums.loss, expected, rtol=1e-4)


def test_an_option_of_a_loss_term_that_does_not_exist_is_an_error():
    terms = {"train.loss_terms": (f"{_HERE}:LogitPenalty",), "train.loss_options": {"LogitPenalty": {"scales": 1.0}}}
    with pytest.raises(InputError, match=r"loss_options\.LogitPenalty\.scales: .*; did you mean scale\?"):
        make_objective(PairsWithoutDropout(), micro(terms).train)


@pytest.mark.parametrize(
    ("optimizer", "options", "reference"),
    [("optax:sgd", {}, optax.sgd(0.1)), (f"{_HERE}:Momentum", {"decay": 0.9}, optax.sgd(0.1, momentum=0.9))],
)
def test_an_optimizer_is_a_function_of_the_schedule(optimizer, options, reference):
    changes = {"optim.optimizer": optimizer, "optim.options": options, "optim.clip_norm": 0.0}
    changes |= {"optim.frozen": ("b",), "optim.lr_multipliers": ("a=3",)}
    ours = make_optimizer(micro(changes).optim, optax.constant_schedule(0.1), PARAMS)
    state, expected = ours.init(PARAMS), reference.init(PARAMS)
    for _ in range(2):
        updates, state = ours.update(GRADIENTS, state, PARAMS, value=1.0)
        reference_updates, expected = reference.update(GRADIENTS, expected, PARAMS)
        np.testing.assert_allclose(updates["a"], 3 * reference_updates["a"], rtol=1e-6)
        assert updates["b"] == 0


def test_an_optimizer_by_import_path_does_its_own_weight_decay():
    config = micro({"optim.optimizer": "optax:adamaxw", "optim.weight_decay": 0.1}).optim
    with pytest.raises(InputError, match=r"optim\.weight_decay=0\.1: config\.optim\.optimizer='optax:adamaxw' does"):
        make_optimizer(config, optax.constant_schedule(0.1), PARAMS)


def test_a_schedule_gets_peak_and_steps_of_the_config():
    changes = {
        "optim.schedule": f"{_HERE}:Steps",
        "optim.learning_rate": 0.2,
        "optim.schedule_options": {"factor": 0.1},
    }
    schedule = make_schedule(micro(changes).optim, 100)
    np.testing.assert_allclose([schedule(step) for step in (0, 9, 10, 25)], [0.2, 0.2, 0.02, 0.002], rtol=1e-6)
