"""The cores and GPUs of one machine, shared out among jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

_MEMORY = 0.9  # of a GPU, for all jobs on it together


@dataclass(frozen=True)
class Share:
    """What a job may use.

    Attributes:
      cores: of the machine; none: all that it sees.
      environment: variables that jax reads when it looks for devices.
    """

    cores: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def take(self) -> None:
        """Confines this process to it, before jax is asked for devices: its pools of threads become as large."""
        if self.cores:
            os.sched_setaffinity(0, self.cores)
        os.environ.update(self.environment)


def shares(count: int) -> list[Share]:
    """So many shares of this machine: as few cores and GPUs in common as can be."""
    cores, gpus = sorted(os.sched_getaffinity(0)), visible_gpus()
    return [Share(tuple(_part(cores, i, count)), _environment(gpus, i, count)) for i in range(count)]


def visible_gpus() -> list[str]:
    """The names of the GPUs that a process would use, as CUDA_VISIBLE_DEVICES knows them."""
    if os.environ.get("JAX_PLATFORMS", "cuda").split(",")[0] not in ("cuda", "gpu", ""):
        return []
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines()))]


def _environment(gpus: Sequence[str], i: int, count: int) -> dict[str, str]:
    if not gpus:
        return {}
    found = {"CUDA_VISIBLE_DEVICES": ",".join(_part(gpus, i, count))}
    together = -(-count // len(gpus))
    if together > 1:  # jax takes three quarters of a GPU at once, which the next job would find missing
        own = os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{_MEMORY / together:.2f}")
        found["XLA_PYTHON_CLIENT_MEM_FRACTION"] = own
    return found


def _part(things: Sequence[T], i: int, count: int) -> Sequence[T]:
    """Part i of ``count``; where there are not enough, one of them."""
    if count > len(things):
        return [things[i % len(things)]]
    return things[i * len(things) // count : (i + 1) * len(things) // count]
