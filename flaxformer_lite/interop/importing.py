"""Import of a pretrained model into a work directory."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from flaxformer_lite.checkpoints.checkpoint_manager import save_params
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config import parsing, python_files
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop.families.config_map import Family, share_embeddings
from flaxformer_lite.interop.families.family_table import FAMILIES
from flaxformer_lite.interop.families.name_map import NameMap, TensorMatch, is_unused, match_params
from flaxformer_lite.interop.generation_config import GENERATION_KEYS, read_generation_config
from flaxformer_lite.interop.pretrained_dir import PretrainedDir
from flaxformer_lite.interop.safetensors_io import TensorReader
from flaxformer_lite.interop.special_tokens import read_special_tokens
from flaxformer_lite.interop.tokenizer_import import LanguagePair, read_vocabularies
from flaxformer_lite.models.encoder_decoder import make_decoding_model
from flaxformer_lite.train_step.state import param_shapes

logger = logging.getLogger(__name__)

_ZERO_IF_MISSING = ("final_logits_bias",)  # as in transformers
_OVERFLOW_IN_FLOAT16 = ("t5", "mt5", "umt5")
_KEPT_FILES = ("*.json", "*.model", "*.spm", "*.txt", "*.md", "LICENSE*")


class PretrainedModel(NamedTuple):
    """A pretrained model whose settings and tokenizer have been read, but none of its weights.

    Attributes:
      directory: contains its files.
      family: of its ``model_type``.
      config: of the future work directory.
      vocabularies: of sources and of targets.
      matches: each tensor to read with its parameter, and the name by which the files have it.
      zeros: parameters that the files lack and that are zero in the reference.
      weights: reads the tensors.
    """

    directory: PretrainedDir
    family: Family
    config: Config
    vocabularies: tuple[Vocabulary, Vocabulary]
    matches: list[tuple[TensorMatch, str]]
    zeros: list[TensorMatch]
    weights: TensorReader


def open_pretrained(source: Path, workdir: Path, languages: LanguagePair) -> PretrainedModel:
    """Reads everything but the weights and refuses whatever cannot be converted exactly.

    Args:
      source: the directory of the pretrained model.
      workdir: the future work directory; the config refers to the vocabularies there.
      languages: required for multilingual models.

    Raises:
      InputError: something is missing, damaged or not supported; the message lists all problems of one kind.
    """
    directory = PretrainedDir(source)
    name = directory.config.get("model_type")
    if name is None and "train" in directory.config:
        raise InputError(str(source), "is a work directory already", "decode, train or export it as it is")
    if not isinstance(name, str) or name not in FAMILIES:
        found = f"config.json has model_type={name!r}" if name else "config.json has no model_type"
        raise InputError(str(source), found, f"supported are {', '.join(sorted(FAMILIES))}")
    if directory.config.get("is_encoder_decoder") is False:
        raise InputError(str(source), "config.json has is_encoder_decoder=False, so it is not an encoder-decoder")
    family = FAMILIES[name]
    weights = TensorReader(directory, "model." if family.embedding_tables[0][0].startswith("model.") else "")
    share = _find_shared_embeddings(family, weights)
    model = family.config_to_model(directory.config, share)
    sizes = family.vocab_sizes(directory.config)
    search = directory.json("generation_config.json") or {
        key: value for key, value in directory.config.items() if key in GENERATION_KEYS
    }
    special = read_special_tokens(directory.config, search)
    vocabularies = read_vocabularies(directory, name, special, sizes, languages)
    decode = read_generation_config(search, special, vocabularies[1])
    config = _make_config(model, decode, share, workdir.absolute(), _param_dtype(name, weights))
    matches, zeros = _match_tensors(*_names_and_shapes(family, config, sizes), weights)
    return PretrainedModel(directory, family, config, vocabularies, matches, zeros, weights)


def names_and_shapes(family: str, config: Mapping[str, Any], share: str) -> tuple[NameMap, dict[str, tuple[int, ...]]]:
    """The tensor names of a pretrained model and the shapes of its parameters here, from its config.json alone.

    Args:
      family: its ``model_type``.
      config: its config.json.
      share: the value of ``config.model.share_embeddings``.
    """
    known = FAMILIES[family]
    own = _make_config(known.config_to_model(config, share), {}, share, Path(), "float32")
    return _names_and_shapes(known, own, known.vocab_sizes(config))


def log_task_settings(model: PretrainedModel) -> None:
    """Shows the settings for single tasks in config.json, which are not converted (``generate`` ignores them too)."""
    tasks = model.directory.config.get("task_specific_params") or {}
    lines = [
        f"{task}: {', '.join(f'{key}={value!r}' for key, value in given.items())}" for task, given in tasks.items()
    ]
    if prefix := model.directory.config.get("prefix"):
        lines.append(f"all tasks: prefix={prefix!r}")
    if lines:
        note = "config.json has settings for single tasks; set them yourself (prepend the prefix to each line):"
        logger.info("\n  ".join([note, *lines]))


def read_params(model: PretrainedModel) -> Any:
    """The parameter tree, read from the largest tensor to the smallest; at most one tensor is in memory twice."""
    dtype = np.dtype(jnp.dtype(model.config.precision.param_dtype))
    leaves = {match.param: jnp.zeros(match.shape, dtype) for match in model.zeros}
    for match, name in sorted(model.matches, key=lambda found: -np.prod(found[0].shape, dtype=np.int64)):
        param = match.layout.to_param(model.weights.read(name), match.shape)
        leaves[match.param] = jnp.asarray(np.ascontiguousarray(param, dtype))
    return unflatten_dict(leaves, sep="/")


def write_workdir(model: PretrainedModel, params: Any, path: Path) -> None:
    """Writes config, vocabularies, parameters and the tokenizer's original files into an existing directory."""
    work = WorkDir(path)
    work.claim(model.config)
    work.save_vocabularies(*model.vocabularies)
    save_params(work.checkpoints, params)
    work.published.mkdir()
    source = model.directory.path
    for file in sorted({file for pattern in _KEPT_FILES for file in source.glob(pattern) if file.is_file()}):
        shutil.copyfile(file, work.published / file.name)


def _find_shared_embeddings(family: Family, weights: TensorReader) -> str:
    """The value of ``config.model.share_embeddings``, by the names and the content of the embedding tables."""
    found = [next((name for name in names if name in weights.tensors), "") for names in family.embedding_tables]
    if "" in found:
        missing = [names[0] for names, name in zip(family.embedding_tables, found, strict=True) if not name]
        raise InputError(str(weights.path), f"the weights have no embeddings: {', '.join(missing)} are missing")
    source, target, output = found
    return share_embeddings(
        source == target or weights.equal(source, target), output == target or weights.equal(output, target)
    )


def _names_and_shapes(
    family: Family, config: Config, sizes: tuple[int, int]
) -> tuple[NameMap, dict[str, tuple[int, ...]]]:
    params: Any = flatten_dict(param_shapes(make_decoding_model(config, *sizes)), sep="/")
    return family.name_map(config.model), {path: leaf.shape for path, leaf in params.items()}


def _match_tensors(
    names: NameMap, shapes: Mapping[str, tuple[int, ...]], weights: TensorReader
) -> tuple[list[tuple[TensorMatch, str]], list[TensorMatch]]:
    """The tensor of each parameter, and the parameters without one that are zero.

    Raises:
      InputError: tensors are missing, have another shape, are left over, or differ though they should be the same.
    """
    matches, zeros, problems, used = [], [], [], set()
    for match in match_params(names, shapes):
        aliases = (match.tensor, *names.aliases.get(match.tensor, ()))
        present = [name for name in aliases if name in weights.tensors]
        used |= set(present)
        shape = match.layout.tensor_shape(match.shape)
        if not present:
            if match.tensor in _ZERO_IF_MISSING:
                zeros.append(match)
            else:
                problems.append(f"{match.tensor} is missing: {list(shape)}")
            continue
        if (actual := weights.tensors[present[0]].shape) != shape:
            problems.append(f"{present[0]} has shape {list(actual)}, expected {list(shape)} from config.json")
        else:
            problems += [
                f"{name} differs from {present[0]}" for name in present[1:] if not weights.equal(present[0], name)
            ]
        matches.append((match, present[0]))
    extra = [name for name in weights.tensors if name not in used and not is_unused(names, name)]
    problems += [f"{name} {list(weights.tensors[name].shape)} is not part of this model" for name in sorted(extra)]
    if problems:
        raise InputError(str(weights.path), "the weights do not fit config.json:\n  " + "\n  ".join(problems))
    return matches, zeros


def _param_dtype(name: str, weights: TensorReader) -> str:
    """bfloat16 if all tensors are, otherwise float32, which represents float16 exactly."""
    dtypes = {str(tensor.dtype) for tensor in weights.tensors.values()}
    if "float16" in dtypes and name in _OVERFLOW_IN_FLOAT16:
        raise InputError(
            str(weights.path),
            f"model_type={name} with float16 weights: the activations of its feed-forward layers exceed 65504, the "
            "largest number of float16",
            "use the weights in float32 or bfloat16",
        )
    if "float64" in dtypes:
        raise InputError(str(weights.path), "float64 weights would be rounded", "convert them to float32 first")
    return "bfloat16" if dtypes == {"bfloat16"} else "float32"


def _make_config(
    model: Mapping[str, Any], decode: Mapping[str, Any], share: str, workdir: Path, param_dtype: str
) -> Config:
    values = python_files.run_card("imported")
    values.model.update_from_flattened_dict(dict(model))
    values.decode.update(decode)
    values.data.share_vocabulary = share in ("all", "inputs")
    values.data.source_vocabulary.model = str(workdir / "source.vocabulary.json")
    values.data.target_vocabulary.model = str(workdir / "target.vocabulary.json")
    if values.model.encoder.positions.kind == "learned":
        longest = values.model.encoder.positions.max_length
        values.data.max_source_length = min(values.data.max_source_length, longest)
        values.data.max_target_length = min(values.data.max_target_length, longest)
    values.precision.param_dtype = param_dtype
    return parsing.from_dict(values.to_dict())
