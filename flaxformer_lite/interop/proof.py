"""Whether a conversion computes what the reference does: hidden states layer by layer, logits, and what both say."""

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
from flaxformer_lite.data.vocabularies.vocabulary import Vocabulary
from flaxformer_lite.decoding.base import query
from flaxformer_lite.decoding.beam import BeamSearch
from flaxformer_lite.decoding.beam_variants import HuggingFace
from flaxformer_lite.decoding.greedy import Greedy
from flaxformer_lite.errors import InputError
from flaxformer_lite.inference.predict import search_batch
from flaxformer_lite.models.build import make_decoding_model
from flaxformer_lite.types import SpecialIds, Tokens

logger = logging.getLogger(__name__)

_LENGTHS = (9, 4, 7)  # of random sources; the last two are padded
_SAID = 8  # tokens at most
_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}  # of the size of what is compared


class Report(NamedTuple):
    """What a comparison found.

    Attributes:
      layers: largest absolute difference of each layer's hidden states, and the largest number among them.
      logits: the same of logits.
      greedy: share of rows that greedy search says the same to.
      beam: the same of beam search with 4 beams.
      tolerance: relative to the largest number, up to which a difference is none.
      compared: what with what: versions of both sides and dtypes that they compute in.
    """

    layers: dict[str, tuple[float, float]]
    logits: tuple[float, float]
    greedy: float
    beam: float
    tolerance: float
    compared: dict[str, str]

    @property
    def failures(self) -> list[str]:
        """What differs by more than it may; words may differ where rounding decides."""
        compared = self.layers | {"logits": self.logits}
        return [
            f"{name} differs by {off:.2g} of {size:.3g}"
            for name, (off, size) in compared.items()
            if not off <= self.tolerance * max(size, 1.0)
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        layers = {name: {"difference": off, "largest": size} for name, (off, size) in self.layers.items()}
        logits = {"difference": self.logits[0], "largest": self.logits[1]}
        said = {"greedy": self.greedy, "beam": self.beam}
        return {"compared": self.compared, "tolerance": self.tolerance, "layers": layers, "logits": logits, **said}


def prove(folder: Path, config: Config, vocabularies: tuple[Vocabulary, Vocabulary], params: Any, note: Path) -> None:
    """Compares, says what came of it and writes it down; says so where nothing can be compared.

    Args:
      folder: see ``compare``.
      config: see there.
      vocabularies: see there.
      params: see there.
      note: the JSON file to write.

    Raises:
      InputError: there are differences above tolerance.
    """
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        logger.info(
            "nothing was proved: with transformers and PyTorch (extra `hf`) the conversion would be compared with them"
        )
        return
    report = compare(folder, config, vocabularies, params)
    if report.failures:
        raise InputError(
            "the conversion does not compute what transformers does, and is removed:\n  " + "\n  ".join(report.failures)
        )
    note.write_text(json.dumps(report.to_json(), indent=1) + "\n", "utf-8")
    worst = max((off for off, _ in report.layers.values()), default=0.0)
    logger.info(
        f"compared with transformers on random input: layers differ by at most {worst:.2g}, logits by "
        f"{report.logits[0]:.2g}; greedy search says the same to {report.greedy:.0%}, beam search to {report.beam:.0%}"
    )


def compare(folder: Path, config: Config, vocabularies: tuple[Vocabulary, Vocabulary], params: Any) -> Report:
    """Runs both on random tokens.

    Args:
      folder: that the reference opens.
      config: of the work folder.
      vocabularies: of sources and of targets; only their sizes and special ids are asked.
      params: the parameter tree.

    Raises:
      InputError: the reference cannot open the folder.
    """
    import torch  # pyright: ignore[reportMissingImports]  # of an extra
    import transformers  # pyright: ignore[reportMissingImports]  # of an extra

    theirs = _opened(folder, config.model.output.scale)
    source, target = _random(vocabularies)
    model = make_decoding_model(config, *(own.size for own in vocabularies))
    special = vocabularies[1].special
    mask = {"attention_mask": torch.tensor(np.asarray(source.segments)).long()}
    ids, target_ids = (torch.tensor(np.asarray(tokens.ids)).long() for tokens in (source, target))
    expected, their_layers = _theirs(theirs, {"input_ids": ids, "decoder_input_ids": target_ids, **mask})
    logits, layers = _ours(model, params, source, target)
    said = [
        _agreement(theirs, ids, mask, special, _search(model, params, source, special, search), beams)
        for search, beams in ((Greedy(), 1), (BeamSearch(4, HuggingFace(1.0, False)), 4))
    ]
    return Report(
        layers=_differences(layers, their_layers, np.asarray(source.segments) > 0),
        logits=_difference(np.asarray(logits), expected),
        greedy=said[0],
        beam=said[1],
        tolerance=_TOLERANCE[config.precision.dtype],
        compared={
            "reference": f"transformers {transformers.__version__}, torch {torch.__version__}, in float32",
            "ours": f"jax {jax.__version__}, {config.precision.param_dtype} weights, in {config.precision.dtype}",
        },
    )


def _opened(folder: Path, scaled: bool) -> Any:
    """The reference's model; ``scaled``: whether its outputs shall be, where it does not ask the file."""
    import torch  # pyright: ignore[reportMissingImports]  # of an extra
    import transformers  # pyright: ignore[reportMissingImports]  # of an extra

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    except Exception as error:  # whatever that library raises of a folder that it does not understand
        raise InputError(f"{folder}: transformers cannot open it, so nothing is proved: {error}") from error
    if model.config.model_type == "umt5":
        # Since version 5 it scales their outputs whatever config.json says. T5X, which trained them, does not.
        model.config.tie_word_embeddings = scaled
    return model


def _random(vocabularies: tuple[Vocabulary, Vocabulary]) -> tuple[Tokens, Tokens]:
    rng = np.random.default_rng(0)
    inside = (np.arange(max(_LENGTHS)) < np.array(_LENGTHS)[:, None]).astype(np.int32)
    places = np.broadcast_to(np.arange(max(_LENGTHS), dtype=np.int32), inside.shape)
    sides = []
    for vocabulary, segments in zip(vocabularies, (inside, np.ones_like(inside)), strict=True):
        special = vocabulary.special
        ids = rng.integers(4, vocabulary.size, inside.shape).astype(np.int32)
        ids = np.where(ids == special.pad, special.unknown, ids)  # which the reference would not look at
        sides.append(Tokens(*(jnp.asarray(x) for x in (np.where(segments > 0, ids, special.pad), segments, places))))
    return sides[0], sides[1]


def _theirs(model: Any, given: dict[str, Any]) -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
    """Logits, and what each layer of the encoder and of the decoder says.

    Hooks hear it: what the reference shows as the highest layer's hidden states has gone through the final norm.
    """
    import torch  # pyright: ignore[reportMissingImports]  # of an extra

    heard: dict[str, list[np.ndarray]] = {"encoder": [], "decoder": []}
    hooks = []
    for side, stack in (("encoder", model.get_encoder()), ("decoder", model.get_decoder())):

        def hear(_: Any, __: Any, said: Any, side: str = side) -> None:
            heard[side].append((said[0] if isinstance(said, tuple) else said).numpy())

        layers = stack.block if hasattr(stack, "block") else stack.layers
        hooks += [layer.register_forward_hook(hear) for layer in layers]
    with torch.no_grad():
        logits = model(**given, use_cache=False).logits.numpy()
    for hook in hooks:
        hook.remove()
    return logits, heard


def _ours(model: Any, params: Any, source: Tokens, target: Tokens) -> tuple[Any, dict[str, list[Any]]]:
    """The same of ours."""

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
    for side, half in captured.get("intermediates", {}).items():
        names = sorted(half, key=lambda name: int(name.rpartition("_")[2]))
        layers[side] = [jax.tree.leaves(half[name]["__call__"])[0] for name in names]
    return logits, layers


def _differences(
    ours: dict[str, list[Any]], theirs: dict[str, list[np.ndarray]], inside: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Of each layer, encoder first; what lies beyond a source's end is nobody's."""
    found = {}
    for side, states in theirs.items():
        mask = inside if side == "encoder" else np.ones_like(inside)
        for number, (own, state) in enumerate(zip(ours[side], states, strict=True)):
            found[f"{side} layer {number}"] = _difference(np.asarray(own, np.float32)[mask], state[mask])
    return found


def _difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    return float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())


def _search(model: Any, params: Any, source: Tokens, special: Any, search: Any) -> np.ndarray:
    asked = query(jnp.full(len(_LENGTHS), _SAID))
    run = jax.jit(partial(search_batch, model, search, _SAID, special))
    return np.asarray(run(params, (source, asked)).ids[:, 0])


def _agreement(theirs: Any, ids: Any, mask: Any, special: SpecialIds, ours: np.ndarray, beams: int) -> float:
    """Share of the rows to which both say the same first."""
    import transformers  # pyright: ignore[reportMissingImports]  # of an extra

    never = sorted({special.pad, special.begin} - {special.end})
    # In place of the model's own, which would be asked for what is not said here.
    theirs.generation_config = transformers.GenerationConfig(
        num_beams=beams,
        max_length=_SAID + 1,
        decoder_start_token_id=special.begin,
        pad_token_id=special.pad,
        eos_token_id=special.end,
        suppress_tokens=never,
    )
    said = theirs.generate(ids, **mask).numpy()[:, 1:]
    pairs = zip(ours, said, strict=True)
    return float(np.mean([_ended(one, special) == _ended(other, special) for one, other in pairs]))


def _ended(row: np.ndarray, special: SpecialIds) -> list[int]:
    """What is said before the end; behind it the reference's beam search repeats the end where padding is 0."""
    ids = row.tolist()
    return ids[: next((place for place, token in enumerate(ids) if token in (special.end, special.pad)), len(ids))]
