"""Export of a work directory to a directory that the Hugging Face libraries open."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from flaxformer_lite.checkpoints.restore_params import restore_params
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config.dataclasses import Config, MeshConfig
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.inference.search_from_config import end_token_ids
from flaxformer_lite.interop.families.config_map import architecture, differences
from flaxformer_lite.interop.families.family_table import FAMILIES
from flaxformer_lite.interop.families.name_map import TensorMatch, match_params
from flaxformer_lite.interop.generation_config import GENERATION_KEYS, write_generation_config
from flaxformer_lite.interop.safetensors_io import TensorInfo, write_safetensors
from flaxformer_lite.interop.special_tokens import SpecialTokenIds
from flaxformer_lite.interop.tokenizer_export import write_tokenizer
from flaxformer_lite.models.encoder_decoder import make_decoding_model
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.train_step.state import param_shapes

_ARCHITECTURES = {
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
    "umt5": "UMT5ForConditionalGeneration",
    "bart": "BartForConditionalGeneration",
    "mbart": "MBartForConditionalGeneration",
    "marian": "MarianMTModel",
    "pegasus": "PegasusForConditionalGeneration",
    "m2m_100": "M2M100ForConditionalGeneration",
    "t5gemma": "T5GemmaForConditionalGeneration",
}
# Parameters with one row per entry of the target vocabulary, and the axis of these rows; padding rows are not exported.
_TARGET_VOCABULARY_AXIS = {"target_embedding/table": 0, "output/kernel": 1, "output/bias": 0}


class TrainedModel(NamedTuple):
    """The model of a work directory.

    Attributes:
      work: the work directory.
      config: of its run.
      vocabularies: of sources and of targets.
      step: of the checkpoint.
      params: all parameters by their paths.
    """

    work: WorkDir
    config: Config
    vocabularies: tuple[Vocabulary, Vocabulary]
    step: int
    params: dict[str, Any]


def load_trained(workdir: Path, step: str | int) -> TrainedModel:
    """Loads the parameters that decoding would use, in unscanned form.

    Raises:
      InputError: there is no such checkpoint.
    """
    work = WorkDir(workdir)
    config, vocabularies = work.config(), work.vocabularies()
    model = make_decoding_model(config, *(vocabulary.size for vocabulary in vocabularies))
    layout = MeshLayout(MeshConfig(data=1, fsdp=1, tensor=1), devices=jax.devices()[:1])
    shapes = layout.replicated_shapes(param_shapes(model, config.precision.param_dtype))
    found, params = restore_params(work.checkpoints, step, config.eval.best_metric, shapes)
    return TrainedModel(work, config, vocabularies, found, flatten_dict(params, sep="/"))


def choose_family(trained: TrainedModel) -> str:
    """The ``model_type`` that the model was imported from, otherwise the first that can represent it.

    Raises:
      InputError: there is none; the message lists the keys that do not fit the nearest family.
    """
    model = trained.config.model
    kinds = {"encoder": model.encoder.kind, "decoder": model.decoder.kind}
    if other := [f"config.model.{side}.kind={kind!r}" for side, kind in kinds.items() if kind != "transformer"]:
        raise InputError(", ".join(other), "in all published families both stacks are Transformers")
    imported_from = _published(trained.work, "config.json").get("model_type")
    found: dict[str, tuple[bool, list[str]]] = {}  # whether the conversion fails, and why or the differences
    for name in [imported_from] if imported_from else list(FAMILIES):
        try:
            found[name] = False, differences(FAMILIES[name], model)
        except InputError as error:
            found[name] = True, [str(error)]
        if found[name] == (False, []):
            return name
    nearest = min(found, key=lambda name: (found[name][0], len(found[name][1])))
    reason = f"no published family has such a model; the nearest is {nearest}, without {', '.join(found[nearest][1])}"
    raise InputError(str(trained.work.path), reason)


def write_pretrained(trained: TrainedModel, family: str, target: Path) -> None:
    """Writes config.json, generation_config.json, weights and tokenizer files into an existing directory."""
    special = special_tokens_of(trained)
    _write_json(target / "config.json", make_config_json(trained, family, special))
    decode = dataclasses.asdict(trained.config.decode)
    generation = write_generation_config(decode, special, trained.vocabularies[1])
    _write_json(target / "generation_config.json", generation)
    write_weights(trained, family, target)
    if trained.work.published.is_dir():
        _copy_tokenizer(trained.work.published, target, trained.vocabularies)
    else:
        write_tokenizer(trained.vocabularies, special, target)


def make_config_json(trained: TrainedModel, family: str, special: SpecialTokenIds) -> dict[str, Any]:
    """The content of config.json; keys of an imported model that are unknown here are kept."""
    kept = {
        key: value
        for key, value in _published(trained.work, "config.json").items()
        if key not in GENERATION_KEYS and key not in ("torch_dtype", "_name_or_path")
    }
    converted = FAMILIES[family].model_to_config(architecture(trained.config.model))
    pad = converted.get("pad_token_id", special.pad)
    require(
        pad == special.pad,
        f"config.model.encoder.positions.offset={pad + 1}",
        f"models of this family number positions from one above the padding id, which is {special.pad} in this "
        "vocabulary",
        f"train with {special.pad + 1}, or export to CTranslate2",
    )
    ids = {
        "pad_token_id": special.pad,
        "eos_token_id": special.eos,
        "bos_token_id": special.bos,
        "decoder_start_token_id": special.decoder_start,
    }
    source, target = (vocabulary.size for vocabulary in trained.vocabularies)
    named = {"model_type": family, "architectures": [_ARCHITECTURES[family]], "is_encoder_decoder": True}
    dtype = {"dtype": trained.config.precision.param_dtype}
    values = kept | named | converted | ids | dtype | {"vocab_size": source}
    if family == "marian":
        values["decoder_vocab_size"] = target
    for side, size in (("encoder", source), ("decoder", target)):
        if side in converted:  # families whose config.json has one object per stack
            values[side] = kept.get(side, {}) | converted[side] | {"vocab_size": size}
    return dict(sorted(values.items()))


def special_tokens_of(trained: TrainedModel) -> SpecialTokenIds:
    """The special token ids of the target vocabulary."""
    source, target = trained.vocabularies
    special, decode = target.special, trained.config.decode
    bos = _published(trained.work, "config.json").get("bos_token_id")
    if not isinstance(bos, int):
        bos = (*source.prefix_ids[:1], *target.prefix_ids[:1], special.begin)[0]
    forced_bos = target.prefix_ids[:1] if decode.forced_bos else ()
    end_ids = end_token_ids(decode.end_tokens, target)
    return SpecialTokenIds(special.pad, special.end, special.begin, bos, forced_bos, end_ids)


def write_weights(trained: TrainedModel, family: str, target: Path) -> None:
    """Writes all parameters as the family's tensors, sorted by name."""
    names = FAMILIES[family].name_map(trained.config.model)
    shapes = {path: _vocabulary_shape(path, x.shape, trained.vocabularies) for path, x in trained.params.items()}
    matches = {match.tensor: match for match in match_params(names, shapes)}
    tensors = {
        name: TensorInfo(target, match.layout.tensor_shape(match.shape), np.dtype(trained.params[match.param].dtype))
        for name, match in sorted(matches.items())
    }
    write_safetensors(target, tensors, lambda name: _to_tensor(trained.params, matches[name]))


def _to_tensor(params: dict[str, Any], match: TensorMatch) -> np.ndarray:
    array = np.asarray(params[match.param])
    return match.layout.to_tensor(array[tuple(slice(size) for size in match.shape)])


def _vocabulary_shape(
    path: str, shape: tuple[int, ...], vocabularies: tuple[Vocabulary, Vocabulary]
) -> tuple[int, ...]:
    """The shape of a parameter without the padding rows of a vocabulary axis."""
    if path == "source_embedding/table":
        return vocabularies[0].size, *shape[1:]
    if path not in _TARGET_VOCABULARY_AXIS:
        return shape
    axis = _TARGET_VOCABULARY_AXIS[path]
    return *shape[:axis], vocabularies[1].size, *shape[axis + 1 :]


def _copy_tokenizer(published: Path, target: Path, vocabularies: tuple[Vocabulary, Vocabulary]) -> None:
    """Copies the original files of an imported model and adds the languages that it was imported for."""
    for path in sorted(published.iterdir()):
        if path.name not in ("config.json", "generation_config.json") and not path.name.endswith(".index.json"):
            shutil.copyfile(path, target / path.name)
    settings = _read_json(published / "tokenizer_config.json")
    source, other = vocabularies
    languages = {
        "src_lang": [*source.prefix_ids, *source.suffix_ids[1:]],
        "tgt_lang": [*other.prefix_ids, *[other.special.begin] * (not other.prefix_ids and len(source.suffix_ids) > 1)],
    }
    multilingual = (
        str(settings.get("tokenizer_class", "")).startswith(("MBart", "M2M", "Nllb")) or "src_lang" in settings
    )
    if languages["src_lang"] and languages["tgt_lang"] and multilingual:
        codes = {key: source.token(ids[0]).strip("_") for key, ids in languages.items()}
        _write_json(target / "tokenizer_config.json", settings | codes)


def _published(work: WorkDir, name: str) -> dict[str, Any]:
    return _read_json(work.published / name)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
