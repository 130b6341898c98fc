"""Published families with random weights, beside the same model as ours reads it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flaxformer_lite.config import defaults, parsing
from flaxformer_lite.interop.families.known import FAMILIES
from flaxformer_lite.interop.families.settings import sharing
from flaxformer_lite.interop.families.tensors import is_unused, pairs
from flaxformer_lite.interop.paths import flat, nested
from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from flaxformer_lite.models.scanned import layer_by_layer
from flaxformer_lite.train_step.state import param_shapes
from flaxformer_lite.types import Tokens
from tests.reference import torch, transformers


class Both(NamedTuple):
    """One model twice."""

    theirs: Any
    ours: EncoderDecoder
    params: Any
    names: Any  # of tensors, and which of our parameters each is


def both(config: Any, untied: Sequence[str] = ()) -> Both:
    """A model of the reference with weights as large as trained ones', and ours with the same.

    Args:
      config: the reference's.
      untied: parameters that become tensors of their own.
    """
    torch.manual_seed(0)
    config._attn_implementation = "eager"
    theirs = transformers.AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, tensor in theirs.named_parameters():
            if "embed_positions" not in name or config.model_type in ("bart", "mbart"):
                tensor.add_(0.2 * torch.randn_like(tensor))
        if "final_logits_bias" in dict(theirs.named_buffers()):
            theirs.final_logits_bias.normal_()
    for name in untied:
        module, _, leaf = name.rpartition(".")
        tensor = theirs.get_parameter(name).detach()
        setattr(theirs.get_submodule(module), leaf, torch.nn.Parameter(tensor + 0.3 * torch.randn_like(tensor)))
    return ours_of(theirs)


def ours_of(theirs: Any) -> Both:
    """The same model, its parameters those of the state dict."""
    state = {name: tensor.detach().numpy() for name, tensor in theirs.state_dict().items()}
    settings = json.loads(theirs.config.to_json_string(use_diff=False))
    family = FAMILIES[settings["model_type"]]
    source, target, output = (next(name for name in names if name in state) for names in family.tables)
    share = sharing((_same(state[source], state[target]), _same(state[output], state[target])))
    values = defaults.get_config()
    values.data.share_vocabulary = share in ("all", "inputs")
    values.model.update_from_flattened_dict(family.to_model(settings, share))
    model = parsing.from_dict(values.to_dict()).model
    longest = model.position_details.longest or 64
    ours = EncoderDecoder(model, *family.sizes(settings), longest)
    shapes = {path: x.shape for path, x in flat(param_shapes(ours)).items()}
    names = family.names(model)
    found = pairs(names, shapes)
    leaves = {}
    for pair in found:
        name = next(name for name in (pair.theirs, *names.aliases.get(pair.theirs, ())) if name in state)
        assert state[name].shape == pair.layout.shape(pair.shape), name
        leaves[pair.ours] = jnp.asarray(pair.layout.ours(state[name], pair.shape))
        np.testing.assert_array_equal(pair.layout.theirs(np.asarray(leaves[pair.ours])), state[name])
        for alias in names.aliases.get(pair.theirs, ()):
            np.testing.assert_array_equal(state.get(alias, state[name]), state[name])
    read = {name for pair in found for name in (pair.theirs, *names.aliases.get(pair.theirs, ()))}
    assert [name for name in state if name not in read and not is_unused(names, name)] == []
    return Both(theirs, ours, nested(leaves), found)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool((one == other).all())


# Where rows have tokens: before padding, everywhere, behind padding, around holes, and alone.
SOURCES = ("#######......", "#############", ".....########", "##..###.#...#", "...#.........")
TARGETS = ("##.........", ".......####", "#.##..#####", "###########", "######.....")


def rows(model: Both, pictures: Sequence[str], size: int) -> Tokens:
    """Random ids where pictures have ``#``, and positions as the model's family counts them.

    Most number places, padding or not, whatever ids are there. fairseq's waves number tokens, by ids that are padding.
    """
    inside = np.array([[mark == "#" for mark in picture] for picture in pictures])
    places = np.broadcast_to(np.arange(inside.shape[1]), inside.shape)
    low = 3
    if by_ids := model.ours.config.positions == "fairseq":
        low, places = model.theirs.config.pad_token_id + 1, inside.cumsum(axis=1) - 1
    ids = np.random.default_rng(size).integers(low, size, inside.shape)
    ids = np.where(inside, ids, low - 1) if by_ids else ids
    return Tokens(*(x.astype(np.int32) for x in (ids, inside, places)))


class Found(NamedTuple):
    """What a model says."""

    logits: np.ndarray
    loss: float
    gradients: dict[str, np.ndarray]  # by the names of tensors


def theirs(model: Both, source: Tokens, target: Tokens, labels: np.ndarray) -> Found:
    """By the reference."""
    ids, mask, target_ids = (torch.tensor(x).long() for x in (source.ids, source.segments, target.ids))
    given = {"attention_mask": mask, "decoder_attention_mask": torch.tensor(target.segments).long()}
    model.theirs.zero_grad()
    logits = model.theirs(input_ids=ids, decoder_input_ids=target_ids, use_cache=False, **given).logits.float()
    weights = torch.tensor(target.segments, dtype=torch.float32)
    log_probs = torch.log_softmax(logits, -1).gather(-1, torch.tensor(labels).long()[..., None])[..., 0]
    loss = -(log_probs * weights).sum()
    loss.backward()
    gradients = {name: x.grad.float().numpy() for name, x in model.theirs.named_parameters() if x.grad is not None}
    return Found(logits.detach().numpy(), float(loss), gradients)


def ours(
    model: Both, source: Tokens, target: Tokens, labels: np.ndarray, compiled: Callable[[Any], Any] = jax.jit
) -> Found:
    """By ours, which trains if the reference does.

    Args:
      model: both.
      source: what is read.
      target: what is said.
      labels: what should be.
      compiled: makes of a function of parameters and batches one that runs somewhere.
    """

    def minimised(params: Any, source: Tokens, target: Tokens, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits: Any = model.ours.apply({"params": params}, source, target, train=model.theirs.training)
        log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1)[..., 0]
        return -(log_probs * target.segments).sum(), logits

    run = compiled(jax.value_and_grad(minimised, has_aux=True))
    (loss, logits), gradients = run(model.params, source, target, labels)
    by_path = {path: np.asarray(x) for path, x in flat(layer_by_layer(gradients)).items()}
    named = {pair.theirs: pair.layout.theirs(by_path[pair.ours]) for pair in model.names}
    return Found(np.asarray(logits), float(loss), named)


def assert_same(found: Found, expected: Found, inside: np.ndarray) -> None:
    """All that they say, logits where ``inside`` is not 0."""
    inside = inside != 0
    np.testing.assert_allclose(found.logits[inside], expected.logits[inside], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)
    alone = {name for name in found.gradients.keys() - expected.gradients.keys() if found.gradients[name].any()}
    assert alone <= {"final_logits_bias"}  # which the reference never trains
    largest = max(np.abs(gradient).max() for gradient in expected.gradients.values())
    for name, gradient in expected.gradients.items():
        # All of a tensor's by its largest one; those of keys' biases are nothing but rounding.
        close = 1e-4 * np.abs(gradient).max() + 1e-7 * largest
        np.testing.assert_allclose(found.gradients[name], gradient, rtol=1e-4, atol=close, err_msg=name)
