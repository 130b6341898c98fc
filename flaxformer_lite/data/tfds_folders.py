"""Folders of prepared TFDS data sets, ``data_dir/name/config/version``: why a data set is not found there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flaxformer_lite.errors import require

_INFO = "dataset_info.json"
_READABLE = "array_record"  # the only format that is read without TensorFlow


def check_folder(name: str, data_dir: str) -> None:
    """Refuses folders that are there, but are not what is needed; does nothing where there is no folder.

    Args:
      name: the data set, such as ``wmt14_translate/de-en`` or ``wmt14_translate/de-en:1.0.0``.
      data_dir: the folder of prepared data sets.

    Raises:
      InputError: ``data_dir`` is the folder of one data set or version, or the data set is prepared in a format that
        is read with TensorFlow only.
    """
    root, (base, version) = Path(data_dir).expanduser().resolve(), _divide(name)
    if inner := next((info.parent for depth in range(3) for info in root.glob("*/" * depth + _INFO)), None):
        levels = 3 if _read_info(inner).get("configName") else 2
        parents = [inner, *inner.parents]
        require(
            root not in parents[:levels],
            f"config.data.tfds.data_dir={data_dir!r}",
            "is the folder of one data set or of one of its versions, not that of all data sets",
            f"set it to {str(parents[levels])!r}" if len(parents) > levels else "",
        )
    versions = list_versions(name, data_dir)
    chosen = version or (versions[-1] if versions else "")
    folder = root / base / chosen
    if chosen in versions:
        info = _read_info(folder)
        formats = {info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", ())}
        require(
            _READABLE in formats,
            f"config.data.tfds.name={name!r}",
            f"it is prepared as {', '.join(sorted(formats))} in {folder}, which is read with TensorFlow only",
            f"where TensorFlow is installed, convert it: tfds convert_format --dataset_version_dir={folder} "
            f"--out_file_format={_READABLE}",
        )


def check_version(name: str, data_dir: str) -> None:
    """Raises ``InputError`` where other versions of a data set are prepared, but not the one that is named."""
    _, version = _divide(name)
    versions = list_versions(name, data_dir)
    require(
        version in ("", *versions) or not versions,
        f"config.data.tfds.name={name!r}",
        f"version {version} is not prepared in {data_dir}; there are {', '.join(versions)}",
    )


def list_versions(name: str, data_dir: str) -> list[str]:
    """The prepared versions of a data set, the newest one last."""
    folders = (Path(data_dir).expanduser() / _divide(name)[0]).glob(f"*/{_INFO}")
    found = [info.parent.name for info in folders if info.parent.name.replace(".", "").isdigit()]
    return sorted(found, key=lambda version: [int(part) for part in version.split(".") if part])


def _divide(name: str) -> tuple[str, str]:
    """The data set with its config, and the version; "" for the newest one."""
    base, _, version = name.partition(":")
    return base, version


def _read_info(folder: Path) -> dict[str, Any]:
    try:
        info = json.loads((folder / _INFO).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}
