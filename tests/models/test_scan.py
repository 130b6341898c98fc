"""Scanned layers compute the same as separate layers."""

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from flaxformer_lite.models.transformer.scan import stack_layers, unstack_layers
from flaxformer_lite.train_step.state import init_params
from tests.models.contract import SOURCE, TARGET, Subject
from tests.models.subjects import MODELS, with_dropout

NAMES = ["sinusoidal, pre, target, 1 + 2", "learned, post, target, 2 + 1", "rnn to transformer"]
PUBLISHED = ["relative bias", "relative bias per layer", "rotary"]


def pair(name: str, dropout: float = 0.0) -> tuple[Subject, EncoderDecoder]:
    """A model with separate layers, and the same with scanned ones."""
    model = MODELS[name]
    c = model.config
    encoder, decoder = dataclasses.replace(c.encoder, num_layers=3), dataclasses.replace(c.decoder, num_layers=2)
    config = with_dropout(dataclasses.replace(c, encoder=encoder, decoder=decoder), dropout)
    each = dataclasses.replace(model, config=config)
    return Subject(each), dataclasses.replace(each, config=dataclasses.replace(config, scan_layers=True))


@pytest.mark.parametrize(
    "name",
    [
        *(NAMES[0], NAMES[2], PUBLISHED[1]),
        *(pytest.param(name, marks=pytest.mark.slow) for name in (NAMES[1], *PUBLISHED[::2])),
    ],
)
def test_scanned_layers_give_the_same_logits(name):
    subject, scanned = pair(name)
    params = stack_layers(subject.params)
    logits = jax.jit(lambda params, *tokens: scanned.apply({"params": params}, *tokens, train=False))(
        params, SOURCE, TARGET
    )
    np.testing.assert_allclose(logits, subject.logits(SOURCE, TARGET), rtol=1e-4, atol=1e-4)


def test_scanned_parameters_have_the_names_and_shapes_of_stacked_ones():
    subject, scanned = pair(NAMES[0])
    boxed = jax.eval_shape(lambda: init_params(scanned, 0))
    expected = jax.eval_shape(stack_layers, subject.params)
    assert jax.tree.map(lambda x: x.shape, nn.meta.unbox(boxed)) == jax.tree.map(lambda x: x.shape, expected)
    spec = nn.get_partition_spec(boxed)["encoder"]["layers"]["feed_forward"]["up"]["kernel"]
    assert tuple(spec) == ("layers", "embed", "mlp")


def test_new_layers_differ():
    _, scanned = pair(NAMES[0])
    params = nn.meta.unbox(jax.jit(lambda: init_params(scanned, 0))())
    kernel = params["encoder"]["layers"]["feed_forward"]["up"]["kernel"]
    assert kernel.shape[0] == 3
    assert np.abs(np.diff(kernel, axis=0)).max(axis=(1, 2)).min() > 0.1


def test_unstacking_inverts_stacking():
    subject, _ = pair(NAMES[0])
    state = {"step": 3, "moments": (subject.params, np.ones(2))}
    again = unstack_layers(stack_layers(state))
    assert jax.tree.structure(again) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, again, state)


@pytest.mark.parametrize(
    ("policy", "scan"),
    [
        pytest.param(policy, scan, marks=[pytest.mark.slow] * ((policy, scan) not in (("full", False), ("dots", True))))
        for policy in ("dots", "dots_with_no_batch_dims", "full")
        for scan in (False, True)
    ],
)
def test_rematerialization_changes_no_gradient(policy, scan):
    subject, scanned = pair(NAMES[0], dropout=0.5)
    model, params = (scanned, stack_layers(subject.params)) if scan else (subject.model, subject.params)
    kept, again = (jax.jit(gradients(model, remat)).lower(params) for remat in ("none", policy))
    assert again.as_text().count("stablehlo.exponential") > kept.as_text().count("stablehlo.exponential")
    more = again.as_text().count("stablehlo.dot_general") - kept.as_text().count("stablehlo.dot_general")
    assert (more > 0) == (policy != "dots")
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
    jax.tree.map(close, again.compile()(params), kept.compile()(params))


def gradients(model: EncoderDecoder, remat: str) -> Any:
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, remat=remat))
    source, target = (jax.tree.map(jnp.asarray, tokens) for tokens in (SOURCE, TARGET))

    def loss(params: Any) -> Any:
        rngs = {"dropout": jax.random.key(1)}
        return jnp.square(model.apply({"params": params}, source, target, train=True, rngs=rngs)).mean()

    return jax.grad(loss)
