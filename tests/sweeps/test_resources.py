import os
import subprocess
import sys

import pytest

from flaxformer_lite.sweeps import resources
from flaxformer_lite.sweeps.resources import JobResources


@pytest.fixture
def machine(monkeypatch):
    """Fakes the cores and GPUs of a machine."""

    def machine(cores, gpus):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cores))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        monkeypatch.delenv("JAX_PLATFORMS")
        monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)

    return machine


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_cores_are_split_evenly_without_overlap(count, machine):
    machine(range(3, 10), "")
    found = resources.split_resources(count)
    assert sorted(core for job in found for core in job.cores) == list(range(3, 10))
    sizes = {len(job.cores) for job in found}
    assert max(sizes) - min(sizes) <= 1
    assert all(job.environment == {} for job in found)


def test_more_jobs_than_cores_share_cores(machine):
    machine({4, 6}, "")
    assert [job.cores for job in resources.split_resources(5)] == [(4,), (6,), (4,), (6,), (4,)]


def test_gpus_are_split(machine):
    machine(range(8), "5,6,GPU-a,GPU-b")
    assert [job.environment for job in resources.split_resources(2)] == [
        {"CUDA_VISIBLE_DEVICES": "5,6"},
        {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"},
    ]
    four = [job.environment["CUDA_VISIBLE_DEVICES"] for job in resources.split_resources(4)]
    assert four == ["5", "6", "GPU-a", "GPU-b"]


def test_jobs_on_one_gpu_split_its_memory(machine, monkeypatch):
    machine(range(8), "0,1")
    found = [job.environment for job in resources.split_resources(3)]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in found] == ["0", "1", "0"]
    assert {environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] for environment in found} == {"0.45"}
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.2")
    assert resources.split_resources(3)[0].environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.2"


def test_no_gpus_are_used_on_the_cpu_platform(machine, monkeypatch):
    machine(range(2), "0,1")
    assert resources.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert resources.visible_gpus() == []


def test_apply_sets_affinity_and_environment(repository):
    core = min(os.sched_getaffinity(0))
    code = (
        "from flaxformer_lite.sweeps.resources import JobResources\n"
        f"JobResources(({core},), {{'GIVEN': 'yes'}}).apply()\n"
        "import os; print(os.sched_getaffinity(0), os.environ['GIVEN'])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert result.stdout == f"{{{core}}} yes\n"
    before = os.sched_getaffinity(0)
    JobResources().apply()
    assert os.sched_getaffinity(0) == before
