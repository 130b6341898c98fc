"""Published families equal the reference with scanned layers on eight devices, and in bfloat16 up to rounding."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.config import defaults
from flaxformer_lite.config.dataclasses import MeshConfig
from flaxformer_lite.config.parsing import from_dict
from flaxformer_lite.models.transformer.scan import stack_layers
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.train_step.state import init_params
from tests.interop import model_pairs
from tests.interop.tiny_models import MODELS
from tests.marks import slow_except
from tests.transformers_reference import torch

pytestmark = pytest.mark.filterwarnings("ignore")  # raised by other libraries

_QUICK = ("umt5", "t5gemma, untied")  # bias in each layer; rotary positions and sliding windows
_NAMES = slow_except(_QUICK, MODELS)
_EVEN = {  # divisible by two devices
    **{"vocab_size": 38, "decoder_vocab_size": 44, "num_heads": 4, "encoder_attention_heads": 4},
    **{"decoder_ffn_dim": 10, "num_key_value_heads": 2},
}


class _State(NamedTuple):
    step: Any
    params: Any


@pytest.mark.parametrize("name", _NAMES)
def test_scanned_layers_on_eight_devices_equal_the_reference(name):
    pair = MODELS[name]._replace(settings=_even(MODELS[name].settings)).make_pair()
    batch = model_pairs.random_batch(pair, rows=4)
    scanned = dataclasses.replace(pair.model, config=dataclasses.replace(pair.model.config, scan_layers=True))
    layout = MeshLayout(
        MeshConfig(data=2, fsdp=2, tensor=2), from_dict(defaults.get_config().to_dict()).logical_axis_rules
    )
    shapes = layout.shapes(lambda: _State(jnp.zeros((), jnp.int32), init_params(scanned, 0)))
    state = _State(jnp.zeros((), jnp.int32), stack_layers(pair.params))
    state = jax.device_put(state, jax.tree.map(lambda x: x.sharding, shapes))
    divided = [x.sharding for x in jax.tree.leaves(state) if not x.sharding.is_fully_replicated]
    assert len(divided) > len(jax.tree.leaves(state)) / 2

    def compiled(function: Any) -> Any:
        def step(fixed: Any, state: _State, batch: Any, key: Any, reduce: Any) -> Any:
            del fixed, key, reduce
            return state, function(state.params, *batch)

        run = layout.compile(step, jax.random.key(0), shapes)
        return lambda params, *batch: run((), _State(state.step, params), layout.shard_batch(batch))[1]

    found = model_pairs.run_model(pair._replace(model=scanned, params=state.params), *batch, compiled)
    model_pairs.assert_same(found, model_pairs.run_reference(pair, *batch), batch[1].segments)


def _even(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: _even(value) if isinstance(value, dict) else _EVEN.get(key, value) for key, value in settings.items()}


@pytest.mark.parametrize("name", _NAMES)
def test_bfloat16_rounding_errors_are_those_of_the_reference(name):
    pair = MODELS[name].make_pair()
    batch = model_pairs.random_batch(pair)
    exact = model_pairs.run_reference(pair, *batch)
    rounded = pair._replace(
        model=dataclasses.replace(pair.model, dtype="bfloat16"), reference=pair.reference.to(torch.bfloat16)
    )
    inside, errors = batch[1].segments != 0, []
    for found in (model_pairs.run_model(rounded, *batch), model_pairs.run_reference(rounded, *batch)):
        logits = _distance(found.logits[inside], exact.logits[inside])
        named = [np.concatenate([x.gradients[key].ravel() for key in exact.gradients]) for x in (found, exact)]
        errors.append((logits, _distance(*named)))
    own, reference = errors
    assert 1e-4 < own[0] < 1.1 * reference[0] < 0.1
    assert 1e-4 < own[1] < min(2 * reference[1], 0.2)  # which is smaller depends on the weights


def _distance(rounded: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(rounded - exact) / np.linalg.norm(exact))
