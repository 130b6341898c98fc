"""The tensors of a published model, in and out of ``safetensors`` files, one at a time."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors
from jaxtyping import Shaped

from flaxformer_lite.errors import InputError, write_errors_named
from flaxformer_lite.interop.folder import Folder, bring_again

_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F64": np.dtype(np.float64),
}
_SHARD_BYTES = 5 * 10**9  # of one file, as others cut them


class Tensor(NamedTuple):
    """Where a tensor lies and what it is."""

    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype


class Weights:
    """All tensors of a folder; each is read from its file when it is asked for.

    Args:
      folder: where the files lie.
      prefix: of all names but those of a head; files of a base model alone leave it out.

    Raises:
      InputError: there are none, they are pickled, or a file cannot be read.
    """

    def __init__(self, folder: Folder, prefix: str = ""):
        stored: dict[str, Tensor] = {}
        for path in _files(folder):
            stored |= _listed(path)
        self._left_out = "" if any(name.startswith(prefix) for name in stored) else prefix
        self.tensors = {self._left_out + name: tensor for name, tensor in stored.items()}

    def read(self, name: str) -> Shaped[np.ndarray, "..."]:
        """One tensor."""
        path = self.tensors[name].file
        with _named(path), _opened(path) as file:
            return file.get_tensor(self._stored(name))

    def equal(self, one: str, other: str) -> bool:
        """Whether two tensors are the same bit by bit."""
        first, second = self.tensors[one], self.tensors[other]
        if (first.shape, first.dtype) != (second.shape, second.dtype):
            return False
        with _opened(first.file) as left, _opened(second.file) as right:
            parts = [file.get_slice(self._stored(name)) for file, name in ((left, one), (right, other))]
            rows = first.shape[0] if first.shape else 0
            step = max(1, 2**24 // max(int(np.prod(first.shape[1:])), 1))  # so that neither is ever held whole
            places = [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
            return all(parts[0][place].tobytes() == parts[1][place].tobytes() for place in places)

    def _stored(self, name: str) -> str:
        return name.removeprefix(self._left_out)


def write(target: Path, tensors: Mapping[str, Tensor], read: Callable[[str], np.ndarray]) -> None:
    """Writes ``model.safetensors``, or several files and their index where that would be too large.

    Args:
      target: a folder that is there.
      tensors: what they are, in the order of the files; ``file`` does not matter.
      read: gives one of them, when its turn comes.
    """
    shards = _shards(tensors)
    names = [_ONE] if len(shards) == 1 else [
        f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)
    ]  # fmt: skip
    for name, shard in zip(names, shards, strict=True):
        with write_errors_named(target / name):
            _write_file(target / name, {key: tensors[key] for key in shard}, read)
    if len(shards) > 1:
        size = sum(_bytes(tensor) for tensor in tensors.values())
        where = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))}
        (target / _INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _files(folder: Folder) -> list[Path]:
    if folder.has(_ONE):
        return [folder.path / _ONE]
    if folder.has(_INDEX):
        where = folder.json(_INDEX).get("weight_map")
        if not isinstance(where, dict) or not where or not all(isinstance(name, str) for name in where.values()):
            raise InputError(f"{folder.path / _INDEX}: has no weight_map, which says in what file each tensor is")
        names = sorted(set(where.values()))
        if absent := [name for name in names if not folder.has(name)]:
            raise InputError(f"{folder.path / _INDEX} names files that are not there: {', '.join(absent)}")
        return [folder.path / name for name in names]
    if pickled := [path.name for pattern in _PICKLED for path in sorted(folder.path.glob(pattern))]:
        raise InputError(
            f"--source={folder.path} has its weights in {', '.join(pickled)}, which are pickled: reading them runs "
            "whatever code their author put there. Take the folder's safetensors files instead; where the publisher "
            'has none, and you trust them, write some with PyTorch and transformers: python -c "from transformers '
            "import AutoModelForSeq2SeqLM as M; M.from_pretrained('FOLDER').save_pretrained('SAFE')\", "
            "and copy the tokenizer's files to SAFE too"
        )
    raise InputError(f"--source={folder.path}: there are no weights: neither {_ONE} nor {_INDEX}; download them too")


def _listed(path: Path) -> dict[str, Tensor]:
    found = {}
    with _named(path), _opened(path) as file:
        for name in file.keys():  # noqa: SIM118  # it is no dictionary
            part = file.get_slice(name)
            if part.get_dtype() not in _DTYPES:
                raise InputError(
                    f"{path}: {name} is of type {part.get_dtype()}; only {', '.join(_DTYPES)} are weights here, "
                    "nothing quantised"
                )
            found[name] = Tensor(path, tuple(part.get_shape()), _DTYPES[part.get_dtype()])
    return found


def _opened(path: Path) -> Any:
    """The file, not mapped into memory: pages of it would count as ours until it is closed."""
    return safetensors.safe_open(path, framework="numpy", backend="pread")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns what a damaged file raises into an ``InputError`` that names it."""
    try:
        yield
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {bring_again(path)}") from error


def _shards(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """Names of the tensors that go together into one file."""
    shards, size = [[]], 0
    for name, tensor in tensors.items():
        if shards[-1] and size + _bytes(tensor) > _SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += _bytes(tensor)
    return shards


def _write_file(path: Path, tensors: Mapping[str, Tensor], read: Callable[[str], np.ndarray]) -> None:
    """As the format says: the length of a JSON header, that header, and the tensors one behind the other."""
    kinds = {dtype: name for name, dtype in _DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for (name, tensor), (start, end) in zip(tensors.items(), _places(tensors.values()), strict=True):
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers lie at multiples of 8 bytes
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, tensor in tensors.items():
            array = np.ascontiguousarray(read(name), tensor.dtype)
            assert array.shape == tensor.shape, name
            file.write(array.reshape(-1).view(np.uint8).data)


def _places(tensors: Iterable[Tensor]) -> Iterator[tuple[int, int]]:
    end = 0
    for tensor in tensors:
        start, end = end, end + _bytes(tensor)
        yield start, end


def _bytes(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64)) * tensor.dtype.itemsize
