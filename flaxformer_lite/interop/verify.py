"""Verification of converted models against transformers: hidden states of each layer, logits, and decoded tokens."""

from __future__ import annotations

import importlib.util
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.decoding.base import plain_request
from flaxformer_lite.decoding.beam import BeamSearch
from flaxformer_lite.decoding.beam_scoring import hugging_face
from flaxformer_lite.decoding.decode_loop import Greedy
from flaxformer_lite.errors import InputError
from flaxformer_lite.inference.predict import search_batch
from flaxformer_lite.models.encoder_decoder import make_decoding_model
from flaxformer_lite.types import SpecialIds, Tokens

logger = logging.getLogger(__name__)

_LENGTHS = (9, 4, 7)  # of the random sources; the last two are padded
_MAX_TOKENS = 8  # per output
_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}  # relative to the largest value
Difference = tuple[float, float]  # largest absolute difference, and the largest absolute value of the reference


class VerificationReport(NamedTuple):
    """Differences between a converted model and the reference.

    Attributes:
      layers: difference of the hidden states after each layer.
      logits: difference of the logits.
      greedy: share of sources with the same greedy output.
      beam: share of sources with the same best output of beam search with 4 beams.
      tolerance: largest accepted difference, relative to the largest value.
      compared: library versions and dtypes of both sides.
    """

    layers: dict[str, Difference]
    logits: Difference
    greedy: float
    beam: float
    tolerance: float
    compared: dict[str, str]

    @property
    def failures(self) -> list[str]:
        """Differences above the tolerance; outputs may differ where rounding decides."""
        return [
            f"{name} differs by {difference:.2g} of {largest:.3g}"
            for name, (difference, largest) in (self.layers | {"logits": self.logits}).items()
            if not difference <= self.tolerance * max(largest, 1.0)
        ]

    def to_json(self) -> dict[str, Any]:
        layers = {name: _difference_json(difference) for name, difference in self.layers.items()}
        figures = {"layers": layers, "logits": _difference_json(self.logits), "greedy": self.greedy, "beam": self.beam}
        return {"compared": self.compared, "tolerance": self.tolerance, **figures}


def verify(path: Path, config: Config, vocabularies: tuple[Vocabulary, Vocabulary], params: Any, report: Path) -> None:
    """Compares as ``compare_with_transformers``, logs the result and writes it to the JSON file ``report``.

    Without transformers only a message is logged.

    Raises:
      InputError: a difference exceeds the tolerance.
    """
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        logger.info("skipped verification: install the `hf` extra to compare with transformers")
        return
    found = compare_with_transformers(path, config, vocabularies, params)
    if found.failures:
        listed = "\n  ".join(found.failures)
        raise InputError("verification", f"the converted model differs from transformers:\n  {listed}")
    report.write_text(json.dumps(found.to_json(), indent=1) + "\n", "utf-8")
    worst = max((difference for difference, _ in found.layers.values()), default=0.0)
    logger.info(
        f"verified with transformers on random input: layers differ by at most {worst:.2g}, logits by "
        f"{found.logits[0]:.2g}; the same output for {found.greedy:.0%} of sources with greedy search, for "
        f"{found.beam:.0%} with beam search"
    )


def compare_with_transformers(
    path: Path, config: Config, vocabularies: tuple[Vocabulary, Vocabulary], params: Any
) -> VerificationReport:
    """Runs a model and its counterpart in transformers on random tokens.

    Args:
      path: the directory that transformers opens.
      config: of the work directory.
      vocabularies: of sources and of targets; only their sizes and special ids are used.
      params: the parameter tree.

    Raises:
      InputError: transformers cannot open the directory.
    """
    import torch  # pyright: ignore[reportMissingImports]  # of an extra
    import transformers  # pyright: ignore[reportMissingImports]  # of an extra

    reference = _load_reference(path, config.model.lm_head.scale)
    source, target = _random_tokens(vocabularies)
    model = make_decoding_model(config, *(vocabulary.size for vocabulary in vocabularies))
    special = vocabularies[1].special
    mask = {"attention_mask": torch.tensor(np.asarray(source.segments)).long()}
    ids, target_ids = (torch.tensor(np.asarray(tokens.ids)).long() for tokens in (source, target))
    expected, expected_layers = _run_reference(reference, {"input_ids": ids, "decoder_input_ids": target_ids, **mask})
    logits, layers = _run_model(model, params, source, target)
    agreement = [
        _output_agreement(reference, ids, mask, special, _decode(model, params, source, special, search), beams)
        for search, beams in ((Greedy(), 1), (BeamSearch(4, hugging_face(1.0, False)), 4))
    ]
    return VerificationReport(
        layers=_layer_differences(layers, expected_layers, np.asarray(source.segments) > 0),
        logits=_difference(np.asarray(logits), expected),
        greedy=agreement[0],
        beam=agreement[1],
        tolerance=_TOLERANCE[config.precision.dtype],
        compared={
            "reference": f"transformers {transformers.__version__}, torch {torch.__version__}, in float32",
            "converted": f"jax {jax.__version__}, {config.precision.param_dtype} weights, in {config.precision.dtype}",
        },
    )


def _load_reference(path: Path, scale_logits: bool) -> Any:
    import torch  # pyright: ignore[reportMissingImports]  # of an extra
    import transformers  # pyright: ignore[reportMissingImports]  # of an extra

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32).eval()
    except Exception as error:  # of any type, depending on what the library does not support
        raise InputError("verification", f"transformers cannot open {path}: {error}") from error
    if model.config.model_type == "umt5":
        # Since version 5 it scales UMT5's logits whatever config.json says. T5X, which trained the model, does not.
        model.config.tie_word_embeddings = scale_logits
    return model


def _random_tokens(vocabularies: tuple[Vocabulary, Vocabulary]) -> tuple[Tokens, Tokens]:
    rng = np.random.default_rng(0)
    source_segments = (np.arange(max(_LENGTHS)) < np.array(_LENGTHS)[:, None]).astype(np.int32)
    positions = np.broadcast_to(np.arange(max(_LENGTHS), dtype=np.int32), source_segments.shape)
    sides = []
    for vocabulary, segments in zip(vocabularies, (source_segments, np.ones_like(source_segments)), strict=True):
        special = vocabulary.special
        ids = rng.integers(4, vocabulary.size, segments.shape).astype(np.int32)
        ids = np.where(ids == special.pad, special.unknown, ids)  # the reference would mask padding ids
        ids = np.where(segments > 0, ids, special.pad)
        sides.append(Tokens(*(jnp.asarray(x) for x in (ids, segments, positions))))
    return sides[0], sides[1]


def _run_reference(model: Any, inputs: dict[str, Any]) -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
    """Logits, and the hidden states after each layer of encoder and decoder.

    They are captured by hooks, because the reference applies the final norm to the last one that it returns.
    """
    import torch  # pyright: ignore[reportMissingImports]  # of an extra

    states: dict[str, list[np.ndarray]] = {"encoder": [], "decoder": []}
    hooks = []
    for side, stack in (("encoder", model.get_encoder()), ("decoder", model.get_decoder())):

        def capture(_: Any, __: Any, output: Any, side: str = side) -> None:
            states[side].append((output[0] if isinstance(output, tuple) else output).numpy())

        layers = stack.block if hasattr(stack, "block") else stack.layers
        hooks += [layer.register_forward_hook(capture) for layer in layers]
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits.numpy()
    for hook in hooks:
        hook.remove()
    return logits, states


def _run_model(model: Any, params: Any, source: Tokens, target: Tokens) -> tuple[Any, dict[str, list[Any]]]:
    """Logits and hidden states of the converted model."""

    def run(params: Any) -> Any:
        return model.apply(
            {"params": params},
            source,
            target,
            train=False,
            capture_intermediates=lambda module, name: name == "__call__" and (module.name or "").startswith("layers_"),
        )

    logits, captured = jax.jit(run)(params)
    layers: dict[str, list[Any]] = {}
    for side, stack in captured.get("intermediates", {}).items():
        names = sorted(stack, key=lambda name: int(name.rpartition("_")[2]))
        layers[side] = [jax.tree.leaves(stack[name]["__call__"])[0] for name in names]
    return logits, layers


def _layer_differences(
    found: dict[str, list[Any]], expected: dict[str, list[np.ndarray]], source_mask: np.ndarray
) -> dict[str, Difference]:
    """The difference of each layer, encoder first, without padding."""
    differences = {}
    for side, states in expected.items():
        mask = source_mask if side == "encoder" else np.ones_like(source_mask)
        for number, (layer, state) in enumerate(zip(found[side], states, strict=True)):
            differences[f"{side} layer {number}"] = _difference(np.asarray(layer, np.float32)[mask], state[mask])
    return differences


def _difference(found: np.ndarray, expected: np.ndarray) -> Difference:
    return float(np.abs(found - expected).max()), float(np.abs(expected).max())


def _difference_json(difference: Difference) -> dict[str, float]:
    return dict(zip(("difference", "largest"), difference, strict=True))


def _decode(model: Any, params: Any, source: Tokens, special: SpecialIds, search: Any) -> np.ndarray:
    request = plain_request(jnp.full(len(_LENGTHS), _MAX_TOKENS))
    run = jax.jit(partial(search_batch, model, search, _MAX_TOKENS, special))
    return np.asarray(run(params, (source, request)).ids[:, 0])


def _output_agreement(reference: Any, ids: Any, mask: Any, special: SpecialIds, found: np.ndarray, beams: int) -> float:
    """Share of sources with the same best output."""
    import transformers  # pyright: ignore[reportMissingImports]  # of an extra

    suppressed = sorted({special.pad, special.begin} - {special.end})
    # Replaces the model's own settings, which may ask for more than a comparison needs.
    reference.generation_config = transformers.GenerationConfig(
        num_beams=beams,
        max_length=_MAX_TOKENS + 1,
        decoder_start_token_id=special.begin,
        pad_token_id=special.pad,
        eos_token_id=special.end,
        suppress_tokens=suppressed,
        use_cache=False,  # its cache has as many layers as the encoder, too few for a deeper decoder (T5)
    )
    expected = reference.generate(ids, **mask).numpy()[:, 1:]
    rows = zip(found, expected, strict=True)
    return float(np.mean([_until_end(row, special) == _until_end(other, special) for row, other in rows]))


def _until_end(row: np.ndarray, special: SpecialIds) -> list[int]:
    """The tokens before the end; beam search of the reference repeats the end token after it where padding is 0."""
    ids = row.tolist()
    return ids[: next((i for i, token in enumerate(ids) if token in (special.end, special.pad)), len(ids))]
