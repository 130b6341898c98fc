"""From a work folder to a folder that Hugging Face's libraries open."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxformer_lite.checkpoints.restoring import restore_params
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config.dataclasses import Config, MeshConfig
from flaxformer_lite.data.vocabularies.vocabulary import Vocabulary
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.inference.search_from_config import end_ids
from flaxformer_lite.interop import generation, weights
from flaxformer_lite.interop.families.known import FAMILIES
from flaxformer_lite.interop.families.settings import flat as flat_model
from flaxformer_lite.interop.families.settings import require_expressible
from flaxformer_lite.interop.families.tensors import Pair, pairs
from flaxformer_lite.interop.paths import flat
from flaxformer_lite.interop.roles import Roles
from flaxformer_lite.interop.tokenizer_files import write_tokenizer
from flaxformer_lite.models.build import make_decoding_model
from flaxformer_lite.sharding.layout import MeshLayout
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
# Of a model of ours the rows of these tables beyond the vocabulary are never said; they stay here.
_BY_TARGET = {"target_embedding/table": 0, "output/kernel": 1, "output/bias": 0}


class Trained(NamedTuple):
    """A model of a work folder.

    Attributes:
      work: the folder.
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


def load_trained(workdir: Path, step: str | int) -> Trained:
    """The parameters that decoding would use, layer by layer.

    Raises:
      InputError: there is no such checkpoint.
    """
    work = WorkDir(workdir)
    config, vocabularies = work.config(), work.vocabularies()
    model = make_decoding_model(config, *(own.size for own in vocabularies))
    layout = MeshLayout(MeshConfig(data=1, fsdp=1, tensor=1), devices=_first_device())
    shapes = layout.replicated(param_shapes(model, config.precision.param_dtype))
    found, params = restore_params(work.checkpoints, step, config.eval.best_metric, shapes)
    return Trained(work, config, vocabularies, found, flat(params))


def family_of(trained: Trained) -> str:
    """The ``model_type`` that says this model: the one that it came from, or any that can.

    Raises:
      InputError: none can; the message names what does not fit the nearest one.
    """
    model = trained.config.model
    recurrent = [f"config.model.{half}='rnn'" for half in ("encoder", "decoder") if getattr(model, half) == "rnn"]
    if recurrent:
        raise InputError(f"{', '.join(recurrent)}: published families are Transformers, and none has recurrent parts")
    came_from = _published(trained.work, "config.json").get("model_type")
    reasons = {}
    for name in [came_from] if came_from else list(FAMILIES):
        try:
            require_expressible(FAMILIES[name], model)
        except InputError as error:
            reasons[name] = str(error)
        else:
            return name
    unsayable = [name for name in reasons if "none of that family" not in reasons[name]]
    nearest = min(reasons, key=lambda name: (name in unsayable, reasons[name].count("config.model.")))
    raise InputError(f"no published family has such a model; the nearest is {nearest}: {reasons[nearest]}")


def write_folder(trained: Trained, family: str, target: Path) -> None:
    """Writes config.json, generation_config.json, the weights and the tokenizer's files into a folder that is there."""
    roles = roles_of(trained)
    _write_json(target / "config.json", config_json(trained, family, roles))
    decode = dataclasses.asdict(trained.config.decode)
    _write_json(target / "generation_config.json", generation.write_generation(decode, roles, trained.vocabularies[1]))
    write_weights(trained, family, target)
    published = trained.work.published
    if published.is_dir():
        _copy_tokenizer(published, target, trained.vocabularies)
    else:
        write_tokenizer(trained.vocabularies, roles, target)


def config_json(trained: Trained, family: str, roles: Roles) -> dict[str, Any]:
    """The file's values; what the model came from and this version does not know stays in it."""
    model = flat_model(trained.config.model)
    before = {
        key: value
        for key, value in _published(trained.work, "config.json").items()
        if key not in generation.KEYS and key not in ("torch_dtype", "_name_or_path")
    }
    said = FAMILIES[family].from_model(model)
    pad = said.get("pad_token_id", roles.pad)
    require(
        pad == roles.pad,
        f"config.model.position_details.offset={pad + 1}: a model of this family counts positions from behind the id "
        f"of padding, which is {roles.pad} in its vocabulary: train it with {roles.pad + 1}, or serve it as it is with "
        "--format=ctranslate2",
    )
    ids = {
        "pad_token_id": roles.pad,
        "eos_token_id": roles.end,
        "bos_token_id": roles.begin,
        "decoder_start_token_id": roles.start,
    }
    source, target = (own.size for own in trained.vocabularies)
    named = {"model_type": family, "architectures": [_ARCHITECTURES[family]], "is_encoder_decoder": True}
    values = before | named | said | ids | {"dtype": trained.config.precision.param_dtype, "vocab_size": source}
    if family == "marian":
        values["decoder_vocab_size"] = target
    for side, size in (("encoder", source), ("decoder", target)):
        if side in said:  # a file within the file
            values[side] = before.get(side, {}) | said[side] | {"vocab_size": size}
    return dict(sorted(values.items()))


def roles_of(trained: Trained) -> Roles:
    """The special ids, as the target vocabulary has them."""
    target = trained.vocabularies[1]
    special, opening = target.special, trained.vocabularies[0].opening[:1] or target.opening[:1]
    before = _published(trained.work, "config.json").get("bos_token_id")
    begin = before if isinstance(before, int) else (*opening, special.begin)[0]
    decode = trained.config.decode
    forced = target.opening[:1] if decode.forced_bos else ()
    return Roles(special.pad, special.end, special.begin, begin, forced, end_ids(decode.end_tokens, target))


def write_weights(trained: Trained, family: str, target: Path) -> None:
    """All parameters as the family's tensors, in the order of their names."""
    names = FAMILIES[family].names(trained.config.model)
    shapes = {path: _shape(path, array.shape, trained.vocabularies) for path, array in trained.params.items()}
    found = {pair.theirs: pair for pair in pairs(names, shapes)}
    dtypes = {path: np.dtype(array.dtype) for path, array in trained.params.items()}
    tensors = {
        name: weights.Tensor(target, pair.layout.shape(pair.shape), dtypes[pair.ours])
        for name, pair in sorted(found.items())
    }
    weights.write(target, tensors, lambda name: _tensor(trained, found[name]))


def _tensor(trained: Trained, pair: Pair) -> np.ndarray:
    array = np.asarray(trained.params[pair.ours])
    return pair.layout.theirs(array[tuple(slice(size) for size in pair.shape)])


def _shape(path: str, shape: tuple[int, ...], vocabularies: tuple[Vocabulary, Vocabulary]) -> tuple[int, ...]:
    """Of a parameter, without the rows that tables may have beyond the vocabulary."""
    if path == "source_embedding/table":
        return vocabularies[0].size, *shape[1:]
    if path not in _BY_TARGET:
        return shape
    axis = _BY_TARGET[path]
    return *shape[:axis], vocabularies[1].size, *shape[axis + 1 :]


def _copy_tokenizer(published: Path, target: Path, vocabularies: tuple[Vocabulary, Vocabulary]) -> None:
    """The files that the model came with; the languages that it was imported for stand in them."""
    for path in sorted(published.iterdir()):
        if path.name not in ("config.json", "generation_config.json") and not path.name.endswith(".index.json"):
            shutil.copyfile(path, target / path.name)
    settings = _json(published / "tokenizer_config.json")
    source, other = vocabularies
    spoken = {
        "src_lang": [*source.opening, *source.closing[1:]],
        "tgt_lang": [*other.opening, *[other.special.begin] * (not other.opening and len(source.closing) > 1)],
    }
    if spoken["src_lang"] and spoken["tgt_lang"] and _names_languages(settings):
        named = {key: vocabularies[0].token(ids[0]).strip("_") for key, ids in spoken.items()}
        _write_json(target / "tokenizer_config.json", settings | named)


def _names_languages(settings: dict[str, Any]) -> bool:
    return str(settings.get("tokenizer_class", "")).startswith(("MBart", "M2M", "Nllb")) or "src_lang" in settings


def _published(work: WorkDir, name: str) -> dict[str, Any]:
    return _json(work.published / name)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _first_device() -> list[Any]:
    import jax

    return jax.devices()[:1]
