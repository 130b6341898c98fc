"""Weights in ``safetensors`` files, read and written one tensor at a time."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors
from jaxtyping import Shaped

from flaxformer_lite.errors import InputError, write_errors_named
from flaxformer_lite.interop.pretrained_dir import PretrainedDir, download_remedy

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F64": np.dtype(np.float64),
}
_SHARD_BYTES = 5 * 10**9  # maximum per file, the default of transformers


class TensorInfo(NamedTuple):
    """File, shape and dtype of a tensor."""

    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class TensorReader:
    """Lazy reader of all tensors of a directory.

    Args:
      directory: contains the files.
      prefix: of all tensor names except those of the LM head; files of a base model without a head omit it.

    Attributes:
      path: the directory.
      tensors: shape and dtype of each tensor by its name, prefix included.

    Raises:
      InputError: there are no weights, they are pickled, or a file cannot be read.
    """

    def __init__(self, directory: PretrainedDir, prefix: str = ""):
        self.path = directory.path
        stored: dict[str, TensorInfo] = {}
        for path in _find_files(directory):
            stored |= _read_header(path)
        self._omitted = "" if any(name.startswith(prefix) for name in stored) else prefix
        self.tensors = {self._omitted + name: tensor for name, tensor in stored.items()}

    def read(self, name: str) -> Shaped[np.ndarray, "..."]:
        path = self.tensors[name].file
        with _errors_named(path), _open(path) as file:
            return file.get_tensor(self._stored(name))

    def equal(self, one: str, other: str) -> bool:
        """Whether two tensors are bitwise identical."""
        first, second = self.tensors[one], self.tensors[other]
        if (first.shape, first.dtype) != (second.shape, second.dtype):
            return False
        with _open(first.file) as left, _open(second.file) as right:
            parts = [file.get_slice(self._stored(name)) for file, name in ((left, one), (right, other))]
            rows = first.shape[0] if first.shape else 0
            step = max(
                1, 2**24 // max(int(np.prod(first.shape[1:])), 1)
            )  # so that neither is ever in memory as a whole
            slices = [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
            return all(parts[0][part].tobytes() == parts[1][part].tobytes() for part in slices)

    def _stored(self, name: str) -> str:
        return name.removeprefix(self._omitted)


def write_safetensors(
    target: Path, tensors: Mapping[str, TensorInfo], read: Callable[[str], Shaped[np.ndarray, "..."]]
) -> None:
    """Writes ``model.safetensors``, or several files and their index above 5 GB.

    Args:
      target: an existing directory.
      tensors: all tensors in the order of the files; their ``file`` is ignored.
      read: called once for each tensor, just before it is written.
    """
    shards = _split_into_shards(tensors)
    names = [_SINGLE] if len(shards) == 1 else [
        f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)
    ]  # fmt: skip
    for name, shard in zip(names, shards, strict=True):
        with write_errors_named(target / name):
            _write_file(target / name, {key: tensors[key] for key in shard}, read)
    if len(shards) > 1:
        size = sum(tensor.nbytes for tensor in tensors.values())
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
        (target / _INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _find_files(directory: PretrainedDir) -> list[Path]:
    path = directory.path
    if directory.has(_SINGLE):
        return [path / _SINGLE]
    if directory.has(_INDEX):
        weight_map = directory.json(_INDEX).get("weight_map")
        if (
            not isinstance(weight_map, dict)
            or not weight_map
            or not all(isinstance(name, str) for name in weight_map.values())
        ):
            raise InputError(str(path / _INDEX), "has no weight_map from tensors to files", "download it again")
        names = sorted(set(weight_map.values()))
        if missing := [name for name in names if not directory.has(name)]:
            raise InputError(str(path / _INDEX), f"lists files that are missing: {', '.join(missing)}", "download them")
        return [path / name for name in names]
    if pickled := [file.name for pattern in _PICKLED for file in sorted(path.glob(pattern))]:
        raise InputError(
            str(path),
            f"the weights are pickled ({', '.join(pickled)}), and reading a pickle executes the code in it",
            "download the model's safetensors files; where there are none and you trust the publisher, write them with "
            'PyTorch and transformers: python -c "from transformers import AutoModelForSeq2SeqLM as M; '
            "M.from_pretrained('DIR').save_pretrained('SAFE')\", and copy the tokenizer's files to SAFE too",
        )
    raise InputError(str(path), f"there are no weights (neither {_SINGLE} nor {_INDEX})", "download them too")


def _read_header(path: Path) -> dict[str, TensorInfo]:
    found = {}
    with _errors_named(path), _open(path) as file:
        for name in file.keys():  # noqa: SIM118  # it is no dictionary
            part = file.get_slice(name)
            if part.get_dtype() not in _DTYPES:
                raise InputError(
                    str(path),
                    f"{name} is of dtype {part.get_dtype()}, and only {', '.join(_DTYPES)} are supported",
                    "convert quantized weights to one of these first",
                )
            found[name] = TensorInfo(path, tuple(part.get_shape()), _DTYPES[part.get_dtype()])
    return found


def _open(path: Path) -> Any:
    """The file without memory mapping: mapped pages would count as memory of this process until it is closed."""
    return safetensors.safe_open(path, framework="numpy", backend="pread")


@contextlib.contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(str(path), f"cannot be read ({error})", download_remedy(path)) from error


def _split_into_shards(tensors: Mapping[str, TensorInfo]) -> list[list[str]]:
    shards, size = [[]], 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > _SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    return shards


def _write_file(path: Path, tensors: Mapping[str, TensorInfo], read: Callable[[str], np.ndarray]) -> None:
    """Writes the length of a JSON header, the header, and all tensors without gaps, as the format requires."""
    names = {dtype: name for name, dtype in _DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    ends = list(accumulate((tensor.nbytes for tensor in tensors.values()), initial=0))
    for (name, tensor), start, end in zip(tensors.items(), ends[:-1], ends[1:], strict=True):
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligns the tensors to 8 bytes
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, tensor in tensors.items():
            array = np.ascontiguousarray(read(name), tensor.dtype)
            assert array.shape == tensor.shape, name
            file.write(array.reshape(-1).view(np.uint8).data)
