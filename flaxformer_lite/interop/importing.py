"""From the folder of a published model to a work folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flaxformer_lite.checkpoints.given import save_params
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config import parsing, python_files
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.vocabularies.vocabulary import Vocabulary
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop import generation
from flaxformer_lite.interop.families.known import FAMILIES
from flaxformer_lite.interop.families.settings import Family, sharing
from flaxformer_lite.interop.families.tensors import Names, Pair, is_unused, pairs
from flaxformer_lite.interop.folder import Folder
from flaxformer_lite.interop.paths import nested, path_of
from flaxformer_lite.interop.roles import read_roles
from flaxformer_lite.interop.vocabularies import Languages, read_vocabularies
from flaxformer_lite.interop.weights import Weights
from flaxformer_lite.models.build import make_decoding_model
from flaxformer_lite.train_step.state import param_shapes

# Tensors that the reference makes of zeros where a file has none.
_ZERO = ("final_logits_bias",)
_OVERFLOWS = ("t5", "mt5", "umt5")
_KEPT = ("*.json", "*.model", "*.spm", "*.txt", "*.md", "LICENSE*")


class Read(NamedTuple):
    """A published model as it has been understood, before any of its weights is read.

    Attributes:
      folder: where it lies.
      family: of its ``model_type``.
      config: of the work folder that shall be.
      vocabularies: of sources and of targets.
      found: for each tensor that is read the parameter that it is, and its name in the files.
      zeros: parameters that no tensor is, and that begin as zeros.
      weights: all tensors.
    """

    folder: Folder
    family: Family
    config: Config
    vocabularies: tuple[Vocabulary, Vocabulary]
    found: list[tuple[Pair, str]]
    zeros: list[Pair]
    weights: Weights


def understand(source: Path, workdir: Path, spoken: Languages) -> Read:
    """Reads all but the weights, and refuses what cannot be taken over as it is.

    Args:
      source: the folder of the published model.
      workdir: where it shall go; its config names the vocabularies that will lie there.
      spoken: languages, where the model has to be told.

    Raises:
      InputError: something is missing, damaged, or not supported; the message lists all of its kind.
    """
    folder = Folder(source)
    name = folder.config.get("model_type")
    if name is None and "train" in folder.config:
        raise InputError(f"--source={source} is a work folder already; decode, train or export it as it is")
    if not isinstance(name, str) or name not in FAMILIES:
        said = f"says model_type={name!r}" if name else "has no model_type"
        raise InputError(f"--source={source}: config.json {said}; supported are {', '.join(sorted(FAMILIES))}")
    if folder.config.get("is_encoder_decoder") is False:
        raise InputError(f"--source={source}: config.json says is_encoder_decoder=False: this is half a model")
    family = FAMILIES[name]
    weights = Weights(folder, "model." if family.tables[0][0].startswith("model.") else "")
    share = _shared(family, weights)
    model = family.to_model(folder.config, share)
    sizes = family.sizes(folder.config)
    searched = folder.json("generation_config.json") or {
        key: value for key, value in folder.config.items() if key in generation.KEYS
    }
    roles = read_roles(folder.config, searched)
    vocabularies = read_vocabularies(folder, name, roles, sizes, spoken)
    decode = generation.read_decode(searched, roles, vocabularies[1])
    config = _config(model, decode, share, workdir.absolute(), _dtype(name, weights))
    found, zeros = _matched(*_shapes(family, config, sizes), weights)
    return Read(folder, family, config, vocabularies, found, zeros, weights)


def model_shapes(family: str, config: Mapping[str, Any], share: str) -> tuple[Names, dict[str, tuple[int, ...]]]:
    """The tensors of a published model and the shapes of our parameters, by its config.json alone.

    Args:
      family: its ``model_type``.
      config: its config.json.
      share: which word vectors are one, as ``config.model.share_embeddings`` says.
    """
    known = FAMILIES[family]
    own = _config(known.to_model(config, share), {}, share, Path(), "float32")
    return _shapes(known, own, known.sizes(config))


def unheeded(read: Read) -> str:
    """What config.json has for single tasks, which ``generate`` does not heed either; nothing where it has nothing."""
    tasks = read.folder.config.get("task_specific_params") or {}
    lines = [f"{task}: {', '.join(f'{key}={value!r}' for key, value in said.items())}" for task, said in tasks.items()]
    if prefix := read.folder.config.get("prefix"):
        lines.append(f"all tasks: prefix={prefix!r}")
    if not lines:
        return ""
    return "config.json has settings for tasks, which are yours to give (begin lines with the prefix):\n  " + (
        "\n  ".join(lines)
    )


def read_params(read: Read) -> Any:
    """The parameter tree, tensor by tensor, the largest first: no more is held than it and one tensor twice."""
    dtype = np.dtype(jnp.dtype(read.config.precision.param_dtype))
    leaves = {pair.ours: jnp.zeros(pair.shape, dtype) for pair in read.zeros}
    for pair, name in sorted(read.found, key=lambda found: -np.prod(found[0].shape, dtype=np.int64)):
        ours = pair.layout.ours(read.weights.read(name), pair.shape)
        leaves[pair.ours] = jnp.asarray(np.ascontiguousarray(ours, dtype))
    return nested(leaves)


def write_workdir(read: Read, params: Any, folder: Path) -> None:
    """Writes into a folder that is there what makes it a work folder."""
    work = WorkDir(folder)
    work.claim(read.config)
    work.save_vocabularies(*read.vocabularies)
    save_params(work.checkpoints, params)
    work.published.mkdir()
    for path in sorted({path for pattern in _KEPT for path in read.folder.path.glob(pattern) if path.is_file()}):
        shutil.copyfile(path, work.published / path.name)


def _shared(family: Family, weights: Weights) -> str:
    """Which tables of word vectors are one, by their names or by what is in them."""
    there = [next((name for name in names if name in weights.tensors), "") for names in family.tables]
    if "" in there:
        missing = [names[0] for names, name in zip(family.tables, there, strict=True) if not name]
        raise InputError(f"the weights have no word vectors: {', '.join(missing)} are missing")
    source, target, output = there
    return sharing(
        (source == target or weights.equal(source, target), output == target or weights.equal(output, target))
    )


def _shapes(family: Family, config: Config, sizes: tuple[int, int]) -> tuple[Names, dict[str, tuple[int, ...]]]:
    params = param_shapes(make_decoding_model(config, *sizes))
    return family.names(config.model), {path_of(key): x.shape for key, x in jax.tree.leaves_with_path(params)}


def _matched(
    names: Names, shapes: Mapping[str, tuple[int, ...]], weights: Weights
) -> tuple[list[tuple[Pair, str]], list[Pair]]:
    """The tensor of each parameter, and parameters of which there is none that may be zeros.

    Raises:
      InputError: tensors are missing, of another shape, left over, or differ where they should be one.
    """
    found, zeros, wrong, used = [], [], [], set()
    for pair in pairs(names, shapes):
        aliases = (pair.theirs, *names.aliases.get(pair.theirs, ()))
        there = [name for name in aliases if name in weights.tensors]
        used |= set(there)
        shape = pair.layout.shape(pair.shape)
        if not there:
            if pair.theirs in _ZERO:
                zeros.append(pair)
            else:
                wrong.append(f"{pair.theirs} is missing: {list(shape)}")
            continue
        if (actual := weights.tensors[there[0]].shape) != shape:
            wrong.append(f"{there[0]} has shape {list(actual)}, config.json makes it {list(shape)}")
        else:
            wrong += [
                f"{name} is not the same as {there[0]}" for name in there[1:] if not weights.equal(there[0], name)
            ]
        found.append((pair, there[0]))
    extra = [name for name in weights.tensors if name not in used and not is_unused(names, name)]
    wrong += [f"{name} {list(weights.tensors[name].shape)} is no part of this model" for name in sorted(extra)]
    if wrong:
        raise InputError("the weights do not fit config.json:\n  " + "\n  ".join(wrong))
    return found, zeros


def _dtype(name: str, weights: Weights) -> str:
    """What parameters are kept in: bfloat16 where all are, otherwise float32, which holds the others exactly."""
    dtypes = {str(tensor.dtype) for tensor in weights.tensors.values()}
    if "float16" in dtypes and name in _OVERFLOWS:
        raise InputError(
            f"model_type={name} with float16 weights: what its feed-forward layers compute exceeds the 65504 that "
            "float16 reaches to, and becomes infinite; take the files in float32 or bfloat16"
        )
    if "float64" in dtypes:
        raise InputError("there are float64 weights, which would be rounded; convert them to float32 first")
    return "bfloat16" if dtypes == {"bfloat16"} else "float32"


def _config(model: Mapping[str, Any], decode: Mapping[str, Any], share: str, workdir: Path, dtype: str) -> Config:
    values = python_files.shipped_config("imported")
    values.model.update_from_flattened_dict(dict(model))
    values.decode.update(decode)
    values.data.share_vocabulary = share in ("all", "inputs")
    values.data.source_vocabulary.model = str(workdir / "source.vocabulary.json")
    values.data.target_vocabulary.model = str(workdir / "target.vocabulary.json")
    if values.model.positions == "learned":
        longest = values.model.position_details.longest
        values.data.max_source_length = min(values.data.max_source_length, longest)
        values.data.max_target_length = min(values.data.max_target_length, longest)
    values.precision.param_dtype = dtype
    return parsing.from_dict(values.to_dict())
