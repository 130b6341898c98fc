"""A folder in which a published model lies: its settings and the names of its files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flaxformer_lite.errors import InputError

_POINTER = b"version https://git-lfs"  # what lies in the place of large files where git-lfs did not fetch them


def bring_again(path: Path) -> str:
    """What to do about a file that is there and cannot be read."""
    try:
        with path.open("rb") as file:
            pointer = file.read(len(_POINTER)) == _POINTER
    except PermissionError:
        return "it is not yours to read"
    if pointer:
        return f"it only points at the file, for git-lfs: run `git lfs pull` in {path.parent}"
    return "download it again"


class Folder:
    """Reads what lies in ``--source``.

    Raises:
      InputError: it is not there, or has no ``config.json``.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if self.path.is_file():
            raise InputError(f"--source={self.path}: this is a file; name the folder that the model's files lie in")
        if not self.path.is_dir():
            raise InputError(
                f"--source={self.path}: there is no such folder; download the model first (config.json, "
                "model.safetensors and the files of its tokenizer), such as by `hf download MODEL --local-dir FOLDER`, "
                "and name the folder that they lie in"
            )
        if not os.access(self.path, os.R_OK | os.X_OK):
            raise InputError(f"--source={self.path}: this folder is not yours to read")
        if not self.has("config.json"):
            raise InputError(f"--source={self.path}: there is no config.json; is it the folder of a published model?")
        self.config = self.json("config.json")

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.path / name).is_file()

    def bytes(self, name: str) -> bytes:
        """All of a file."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise InputError(f"{self.path / name}: cannot be read: {error.strerror}") from error

    def text(self, name: str) -> str:
        """All of a text file."""
        try:
            return self.bytes(name).decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path / name}: this is not UTF-8 text ({error})") from error

    def json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file; nothing of a file that is not there."""
        if not self.has(name):
            return {}
        try:
            values = json.loads(self.text(name))
        except ValueError as error:
            raise InputError(f"{self.path / name}: this is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise InputError(f"{self.path / name}: must hold a JSON object, not {str(values)[:60]}")
        return values
