"""Published families with scanned layers on eight devices, and in bfloat16: still what the reference computes."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.config import defaults
from flaxformer_lite.config.dataclasses import MeshConfig
from flaxformer_lite.config.parsing import from_dict
from flaxformer_lite.models.scanned import side_by_side
from flaxformer_lite.sharding.layout import MeshLayout
from flaxformer_lite.train_step.state import init_params
from tests.interop import published
from tests.interop.published import SOURCES, TARGETS, rows
from tests.interop.tiny import MODELS
from tests.reference import torch

pytestmark = pytest.mark.filterwarnings("ignore")  # those of other libraries are not ours to mend

_QUICK = ("t5 1.1", "umt5", "bart", "t5gemma, untied")  # positions of all kinds but waves
_NAMES = [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
_EVEN = {  # what two devices can share out
    **{"vocab_size": 38, "decoder_vocab_size": 44, "num_heads": 4, "encoder_attention_heads": 4},
    **{"decoder_ffn_dim": 10, "num_key_value_heads": 2},
}


class _State(NamedTuple):
    step: Any
    params: Any


@pytest.mark.parametrize("name", _NAMES)
def test_scanned_layers_on_eight_devices_have_the_references_logits_and_gradients(name):
    model = MODELS[name]._replace(settings=_even(MODELS[name].settings)).both()
    source, target = rows(model, SOURCES[:4], model.ours.source_size), rows(model, TARGETS[:4], model.ours.target_size)
    given = source, target, np.roll(target.ids, -1, axis=1)
    scanned = dataclasses.replace(model.ours, config=dataclasses.replace(model.ours.config, scan_layers=True))
    layout = MeshLayout(
        MeshConfig(data=2, fsdp=2, tensor=2), from_dict(defaults.get_config().to_dict()).logical_axis_rules
    )
    shapes = layout.shapes(lambda: _State(jnp.zeros((), jnp.int32), init_params(scanned, 0)))
    state = _State(jnp.zeros((), jnp.int32), side_by_side(model.params))
    state = jax.device_put(state, jax.tree.map(lambda x: x.sharding, shapes))
    divided = [x.sharding for x in jax.tree.leaves(state) if not x.sharding.is_fully_replicated]
    assert len(divided) > len(jax.tree.leaves(state)) / 2

    def compiled(function: Any) -> Any:
        def step(fixed: Any, state: _State, batch: Any, key: Any, reduce: Any) -> Any:
            del fixed, key, reduce
            return state, function(state.params, *batch)

        run = layout.compile(step, jax.random.key(0), shapes)
        return lambda params, *batch: run((), _State(state.step, params), layout.put(batch))[1]

    found = published.ours(model._replace(ours=scanned, params=state.params), *given, compiled)
    published.assert_same(found, published.theirs(model, *given), target.segments)


def _even(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: _even(value) if isinstance(value, dict) else _EVEN.get(key, value) for key, value in settings.items()}


@pytest.mark.parametrize("name", _NAMES)
def test_bfloat16_rounds_no_more_than_the_references_does(name):
    model = MODELS[name].both()
    source, target = rows(model, SOURCES, model.ours.source_size), rows(model, TARGETS, model.ours.target_size)
    given = source, target, np.roll(target.ids, -1, axis=1)
    exact = published.theirs(model, *given)
    rough = model._replace(
        ours=dataclasses.replace(model.ours, dtype="bfloat16"), theirs=model.theirs.to(torch.bfloat16)
    )
    inside, off = target.segments != 0, []
    for found in (published.ours(rough, *given), published.theirs(rough, *given)):
        logits = _distance(found.logits[inside], exact.logits[inside])
        named = [np.concatenate([x.gradients[key].ravel() for key in exact.gradients]) for x in (found, exact)]
        off.append((logits, _distance(*named)))
    ours, theirs = off
    assert 1e-4 < ours[0] < 1.1 * theirs[0] < 0.1
    assert 1e-4 < ours[1] < min(2 * theirs[1], 0.2)  # which of both is nearer, changes with the weights


def _distance(rough: np.ndarray, exact: np.ndarray) -> float:
    """Relative to how large they are."""
    return float(np.linalg.norm(rough - exact) / np.linalg.norm(exact))
