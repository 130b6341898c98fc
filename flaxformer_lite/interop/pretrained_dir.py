"""Directories of pretrained models in the layout of the Hugging Face Hub."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flaxformer_lite.errors import InputError

_LFS_POINTER = b"version https://git-lfs"  # first bytes of the placeholder for a large file that git-lfs did not fetch


def download_remedy(path: Path) -> str:
    """How to repair a file that exists but cannot be read."""
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
    except PermissionError:
        return "check its permissions"
    if is_pointer:
        return f"it is a git-lfs pointer: run `git lfs pull` in {path.parent}"
    return "download it again"


class PretrainedDir:
    """Reader of a pretrained model's directory: settings, weights and tokenizer files.

    Attributes:
      path: the directory.
      config: the content of ``config.json``.

    Raises:
      InputError: the directory does not exist, cannot be read, or has no ``config.json``.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if self.path.is_file():
            raise InputError(str(path), "is a file", "name the directory that contains the model's files")
        if not self.path.is_dir():
            raise InputError(
                str(path),
                "there is no such directory",
                "download the model first (config.json, model.safetensors and the files of its tokenizer), for example "
                "with `hf download MODEL --local-dir DIR`",
            )
        if not os.access(self.path, os.R_OK | os.X_OK):
            raise InputError(str(path), "this directory cannot be read", "check its permissions")
        if not self.has("config.json"):
            raise InputError(str(path), "there is no config.json", "name the directory of a pretrained model")
        self.config = self.json("config.json")

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def bytes(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise InputError(str(self.path / name), f"cannot be read: {error.strerror}") from error

    def text(self, name: str) -> str:
        try:
            return self.bytes(name).decode()
        except UnicodeDecodeError as error:
            raise InputError(str(self.path / name), f"is not UTF-8 text ({error})") from error

    def json(self, name: str) -> dict[str, Any]:
        """The object of a JSON file; an empty one if there is no such file."""
        if not self.has(name):
            return {}
        try:
            values = json.loads(self.text(name))
        except ValueError as error:
            raise InputError(str(self.path / name), f"is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise InputError(str(self.path / name), f"must contain a JSON object, not {str(values)[:60]}")
        return values
