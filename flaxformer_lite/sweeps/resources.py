"""Division of one machine's CPU cores and GPUs among concurrent jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

_GPU_MEMORY = 0.9  # fraction of a GPU's memory, for all jobs on it together


@dataclass(frozen=True)
class JobResources:
    """Resources of one job.

    Attributes:
      cores: CPU cores; empty: all.
      environment: variables that jax reads when it initializes its devices.
    """

    cores: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def apply(self) -> None:
        """Restricts this process; call it before jax initializes its devices, whose thread pools follow the cores."""
        if self.cores:
            os.sched_setaffinity(0, self.cores)
        os.environ.update(self.environment)


def split_resources(count: int) -> list[JobResources]:
    """Splits this machine among ``count`` jobs, with as little overlap as possible."""
    cores, gpus = sorted(os.sched_getaffinity(0)), visible_gpus()
    return [JobResources(tuple(_part(cores, i, count)), _environment(gpus, i, count)) for i in range(count)]


def visible_gpus() -> list[str]:
    """The GPUs that a process would use, in the notation of CUDA_VISIBLE_DEVICES."""
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
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(_part(gpus, i, count))}
    jobs_per_gpu = -(-count // len(gpus))
    if jobs_per_gpu > 1:  # by default jax preallocates three quarters of a GPU, and the next job would fail
        name = "XLA_PYTHON_CLIENT_MEM_FRACTION"
        environment[name] = os.environ.get(name, f"{_GPU_MEMORY / jobs_per_gpu:.2f}")
    return environment


def _part(items: Sequence[T], i: int, count: int) -> Sequence[T]:
    """Part i of ``count``; one item, used in turn, where there are fewer items than parts."""
    if count > len(items):
        return [items[i % len(items)]]
    return items[i * len(items) // count : (i + 1) * len(items) // count]
