"""Models of published families in transformers with random weights, and the same models in this package."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from flaxformer_lite.config import defaults, parsing
from flaxformer_lite.interop.families.config_map import share_embeddings
from flaxformer_lite.interop.families.family_table import FAMILIES
from flaxformer_lite.interop.families.name_map import TensorMatch, is_unused, match_params
from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from flaxformer_lite.models.transformer.scan import unstack_layers
from flaxformer_lite.train_step.state import param_shapes
from flaxformer_lite.types import Tokens
from tests.transformers_reference import torch, transformers


class ModelPair(NamedTuple):
    """One model in both libraries.

    Attributes:
      reference: the model of transformers.
      model: the same model in this package.
      params: its parameters.
      matches: the reference's tensor of each parameter.
    """

    reference: Any
    model: EncoderDecoder
    params: Any
    matches: list[TensorMatch]


def make_pair(config: Any, untied: Sequence[str] = ()) -> ModelPair:
    """A pair of models with random weights of the magnitude of trained ones.

    Args:
      config: of the reference.
      untied: parameters that get a tensor of their own.
    """
    torch.manual_seed(0)
    config._attn_implementation = "eager"
    reference = transformers.AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, tensor in reference.named_parameters():
            if "embed_positions" not in name or config.model_type in ("bart", "mbart"):
                tensor.add_(0.2 * torch.randn_like(tensor))
        if "final_logits_bias" in dict(reference.named_buffers()):
            reference.final_logits_bias.normal_()
    for name in untied:
        module, _, leaf = name.rpartition(".")
        tensor = reference.get_parameter(name).detach()
        setattr(reference.get_submodule(module), leaf, torch.nn.Parameter(tensor + 0.3 * torch.randn_like(tensor)))
    return convert(reference)


def convert(reference: Any) -> ModelPair:
    """The pair of a model of transformers; checks that its tensors and the parameters correspond."""
    state = {name: tensor.detach().numpy() for name, tensor in reference.state_dict().items()}
    settings = json.loads(reference.config.to_json_string(use_diff=False))
    family = FAMILIES[settings["model_type"]]
    source, target, output = (next(name for name in names if name in state) for names in family.embedding_tables)
    share = share_embeddings(_same(state[source], state[target]), _same(state[output], state[target]))
    values = defaults.get_config()
    values.data.share_vocabulary = share in ("all", "inputs")
    values.model.update_from_flattened_dict(family.config_to_model(settings, share))
    model = parsing.from_dict(values.to_dict()).model
    longest = model.encoder.positions.max_length or 64
    own = EncoderDecoder(model, *family.vocab_sizes(settings), longest)
    shapes = {path: x.shape for path, x in flatten_dict(param_shapes(own), sep="/").items()}
    names = family.name_map(model)
    matches = match_params(names, shapes)
    leaves = {}
    for match in matches:
        name = next(name for name in (match.tensor, *names.aliases.get(match.tensor, ())) if name in state)
        assert state[name].shape == match.layout.tensor_shape(match.shape), name
        leaves[match.param] = jnp.asarray(match.layout.to_param(state[name], match.shape))
        np.testing.assert_array_equal(match.layout.to_tensor(np.asarray(leaves[match.param])), state[name])
        for alias in names.aliases.get(match.tensor, ()):
            np.testing.assert_array_equal(state.get(alias, state[name]), state[name])
    read = {name for match in matches for name in (match.tensor, *names.aliases.get(match.tensor, ()))}
    assert [name for name in state if name not in read and not is_unused(names, name)] == []
    return ModelPair(reference, own, unflatten_dict(leaves, sep="/"), matches)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool((one == other).all())


# Positions of tokens (#) and padding (.) in each row: at the start, everywhere, at the end, with gaps, and alone.
SOURCES = ("#######......", "#############", ".....########", "##..###.#...#", "...#.........")
TARGETS = ("##.........", ".......####", "#.##..#####", "###########", "######.....")


def random_tokens(pair: ModelPair, patterns: Sequence[str], size: int) -> Tokens:
    """Random ids where the patterns have ``#``, and positions as the model's family counts them.

    Most families count all positions. Sinusoidal positions of fairseq count only those whose id is not padding.
    """
    inside = np.array([[mark == "#" for mark in pattern] for pattern in patterns])
    places = np.broadcast_to(np.arange(inside.shape[1]), inside.shape)
    low = 3
    if by_ids := pair.model.config.encoder.positions.kind == "sinusoidal_fairseq":
        low, places = pair.reference.config.pad_token_id + 1, inside.cumsum(axis=1) - 1
    ids = np.random.default_rng(size).integers(low, size, inside.shape)
    ids = np.where(inside, ids, low - 1) if by_ids else ids
    return Tokens(*(x.astype(np.int32) for x in (ids, inside, places)))


def random_batch(pair: ModelPair, rows: int = 5) -> tuple[Tokens, Tokens, np.ndarray]:
    """Random sources, decoder inputs and labels."""
    source = random_tokens(pair, SOURCES[:rows], pair.model.source_size)
    target = random_tokens(pair, TARGETS[:rows], pair.model.target_size)
    return source, target, np.roll(target.ids, -1, axis=1)


class Outputs(NamedTuple):
    """Logits, loss and gradients of a model."""

    logits: np.ndarray
    loss: float
    gradients: dict[str, np.ndarray]  # by the reference's names


def run_reference(pair: ModelPair, source: Tokens, target: Tokens, labels: np.ndarray) -> Outputs:
    """Runs the reference, in training mode if it is set to that."""
    ids, mask, target_ids = (torch.tensor(x).long() for x in (source.ids, source.segments, target.ids))
    given = {"attention_mask": mask, "decoder_attention_mask": torch.tensor(target.segments).long()}
    pair.reference.zero_grad()
    logits = pair.reference(input_ids=ids, decoder_input_ids=target_ids, use_cache=False, **given).logits.float()
    weights = torch.tensor(target.segments, dtype=torch.float32)
    log_probs = torch.log_softmax(logits, -1).gather(-1, torch.tensor(labels).long()[..., None])[..., 0]
    loss = -(log_probs * weights).sum()
    loss.backward()
    gradients = {name: x.grad.float().numpy() for name, x in pair.reference.named_parameters() if x.grad is not None}
    return Outputs(logits.detach().numpy(), float(loss), gradients)


def run_model(
    pair: ModelPair, source: Tokens, target: Tokens, labels: np.ndarray, compiled: Callable[[Any], Any] = jax.jit
) -> Outputs:
    """Runs the model of this package, in training mode if the reference is.

    Args:
      pair: contains the model.
      source: source tokens.
      target: decoder inputs.
      labels: expected outputs.
      compiled: compiles a function of parameters and batches.
    """

    def loss_fn(params: Any, source: Tokens, target: Tokens, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits: Any = pair.model.apply({"params": params}, source, target, train=pair.reference.training)
        log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1)[..., 0]
        return -(log_probs * target.segments).sum(), logits

    run = compiled(jax.value_and_grad(loss_fn, has_aux=True))
    (loss, logits), gradients = run(pair.params, source, target, labels)
    by_path = {path: np.asarray(x) for path, x in flatten_dict(unstack_layers(gradients), sep="/").items()}
    named = {match.tensor: match.layout.to_tensor(by_path[match.param]) for match in pair.matches}
    return Outputs(np.asarray(logits), float(loss), named)


def assert_same(found: Outputs, expected: Outputs, inside: np.ndarray) -> None:
    """Compares all outputs, logits where ``inside`` is not 0."""
    inside = inside != 0
    np.testing.assert_allclose(found.logits[inside], expected.logits[inside], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)
    alone = {name for name in found.gradients.keys() - expected.gradients.keys() if found.gradients[name].any()}
    assert alone <= {"final_logits_bias"}  # the reference never trains it
    largest = max(np.abs(gradient).max() for gradient in expected.gradients.values())
    for name, gradient in expected.gradients.items():
        # Relative to the largest of a tensor; the gradients of key biases are nothing but rounding errors.
        close = 1e-4 * np.abs(gradient).max() + 1e-7 * largest
        np.testing.assert_allclose(found.gradients[name], gradient, rtol=1e-4, atol=close, err_msg=name)
