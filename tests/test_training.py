"""What a run's config makes of its dtypes."""

import jax
import pytest

from flaxformer_lite.models.build import make_model
from flaxformer_lite.training import make_training
from tests.micro import micro


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree) if leaf.ndim}


@pytest.mark.parametrize("optimizer", ["adam", "lion", "muon"])
def test_three_dtypes_are_chosen_by_the_config(optimizer):
    config = micro(
        {
            "precision.weights": "bfloat16",
            "precision.compute": "bfloat16",
            "precision.moments": "bfloat16",
            "optim.optimizer": optimizer,
        }
    )
    model = make_model(config, 12, 14)
    assert model.dtype == "bfloat16"
    state = jax.eval_shape(make_training(config, model, []).first_state)
    assert dtypes(state.params) == {"bfloat16"}
    assert "bfloat16" in dtypes(state.opt_state)
    plain = micro({"optim.optimizer": optimizer})
    state = jax.eval_shape(make_training(plain, make_model(plain, 12, 14), []).first_state)
    assert dtypes(state) == {"float32"}
    master = micro({"precision.compute": "bfloat16", "optim.optimizer": optimizer})
    state = jax.eval_shape(make_training(master, make_model(master, 12, 14), []).first_state)
    assert dtypes(state) == {"float32"}
