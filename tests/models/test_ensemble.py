import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.models.ensemble import Ensemble, mean_of_log_probabilities, mean_of_probabilities
from tests.marks import slow_except
from tests.models import contract
from tests.models.subjects import MODELS

MEANS = [mean_of_probabilities, mean_of_log_probabilities]
TRANSFORMER, RECURRENT = MODELS["learned, pre, none"], MODELS["lstm, forward, bahdanau, dot, 2 + 2"]


@pytest.fixture(scope="module")
def mixed():
    return contract.Subject(Ensemble((TRANSFORMER, RECURRENT), mean_of_probabilities))


def test_contract(mixed):
    """The parts of the contract that the members' own tests do not cover."""
    contract.check_shapes(mixed)
    contract.check_steps_equal_decode(mixed)
    contract.check_attention(mixed)


def test_means_of_probabilities_and_of_log_probabilities():
    logits = np.random.default_rng(0).normal(size=(3, 2, 5)) * 3
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    one = mean_of_probabilities(list(jnp.asarray(logits)))
    np.testing.assert_allclose(np.exp(one), probs.mean(0), rtol=1e-5)
    geometric = np.exp(np.log(probs).mean(0))
    other = mean_of_log_probabilities(list(jnp.asarray(logits)))
    np.testing.assert_allclose(np.exp(other), geometric / geometric.sum(-1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("mean", slow_except(MEANS[:1], MEANS))
def test_one_model_with_itself_is_that_model(mean):
    alone = contract.Subject(TRANSFORMER)
    twice = contract.Subject(Ensemble((TRANSFORMER, TRANSFORMER.clone()), mean))
    twice.params = {"members_0": alone.params, "members_1": alone.params}
    expected = jax.nn.log_softmax(alone.logits(contract.SOURCE, contract.TARGET))
    np.testing.assert_allclose(twice.logits(contract.SOURCE, contract.TARGET), expected, atol=1e-5)
    np.testing.assert_allclose(
        twice.attention(contract.SOURCE, contract.TARGET), alone.attention(contract.SOURCE, contract.TARGET), atol=1e-6
    )


def test_max_supported_length_is_the_smallest_of_the_members():
    assert Ensemble((RECURRENT, RECURRENT.clone()), mean_of_probabilities).max_supported_length == float("inf")
    assert Ensemble((RECURRENT, TRANSFORMER), mean_of_probabilities).max_supported_length == contract.MAX_LENGTH
