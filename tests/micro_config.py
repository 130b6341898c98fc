"""Config of the smallest run with all parts, and fixtures for devices and disks."""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import pytest

from flaxformer_lite.config import parsing
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.run_cards import tiny

_SMALL = {
    "data.reverse.examples": 200,
    "data.reverse.max_length": 5,
    "data.num_buckets": 1,
    "model.encoder.width": 16,
    "model.encoder.num_heads": 2,
    "model.encoder.mlp_dim": 24,
    "model.encoder.num_layers": 1,
    "model.encoder.dropout": 0.1,
    "optim.warmup_steps": 3,
    "train.steps": 12,
    "train.batch_size": 8,
    "train.log_every": 5,  # on other steps than saving and evaluation
    "train.eval_every": 4,
    "train.save_every": 3,
    "eval.max_examples": 8,
    "decode.batch_size": 8,
}


def micro(changes: Mapping[str, Any] | None = None) -> Config:
    """``configs/tiny.py`` with smaller sizes, and changes by dotted key."""
    values = tiny.get_config()
    values.update_from_flattened_dict(_SMALL | dict(changes or {}))
    return parsing.from_dict(values.to_dict())


def flags(changes: Mapping[str, Any] | None = None) -> list[str]:
    """The same config as command-line flags."""
    values = _SMALL | dict(changes or {})
    return ["--config=configs/tiny.py", *(f"--config.{key}={value}" for key, value in values.items())]


def use_devices(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Hides all fake devices but the first ones: programs for one device compile several times as fast."""
    devices = jax.devices()[:count]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    monkeypatch.setattr(jax, "device_count", lambda: count)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A directory on a disk of its own, of a size such as ``300k``."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
