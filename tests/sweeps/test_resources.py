import os
import subprocess
import sys

import pytest

from flaxformer_lite.sweeps import resources
from flaxformer_lite.sweeps.resources import Share


@pytest.fixture
def machine(monkeypatch):
    """Says how many cores and which GPUs there are."""

    def machine(cores, gpus):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cores))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        monkeypatch.delenv("JAX_PLATFORMS")
        monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)

    return machine


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_all_cores_are_shared_out_and_none_twice(count, machine):
    machine(range(3, 10), "")
    found = resources.shares(count)
    assert sorted(core for share in found for core in share.cores) == list(range(3, 10))
    sizes = {len(share.cores) for share in found}
    assert max(sizes) - min(sizes) <= 1
    assert all(share.environment == {} for share in found)


def test_more_jobs_than_cores_take_turns(machine):
    machine({4, 6}, "")
    assert [share.cores for share in resources.shares(5)] == [(4,), (6,), (4,), (6,), (4,)]


def test_gpus_are_shared_out(machine):
    machine(range(8), "5,6,GPU-a,GPU-b")
    assert [share.environment for share in resources.shares(2)] == [
        {"CUDA_VISIBLE_DEVICES": "5,6"},
        {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"},
    ]
    four = [share.environment["CUDA_VISIBLE_DEVICES"] for share in resources.shares(4)]
    assert four == ["5", "6", "GPU-a", "GPU-b"]


def test_jobs_that_share_a_gpu_share_its_memory(machine, monkeypatch):
    machine(range(8), "0,1")
    found = [share.environment for share in resources.shares(3)]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in found] == ["0", "1", "0"]
    assert {environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] for environment in found} == {"0.45"}
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.2")
    assert resources.shares(3)[0].environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.2"


def test_whoever_wants_cpus_gets_no_gpus(machine, monkeypatch):
    machine(range(2), "0,1")
    assert resources.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert resources.visible_gpus() == []


def test_pools_of_threads_are_as_large_as_the_share(repository):
    core = min(os.sched_getaffinity(0))
    code = (
        "from flaxformer_lite.sweeps.shares import Share\n"
        f"Share(({core},), {{'SAID': 'yes'}}).take()\n"
        "import os; print(os.sched_getaffinity(0), os.environ['SAID'])"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert said.stdout == f"{{{core}}} yes\n"
    before = os.sched_getaffinity(0)
    Share().take()
    assert os.sched_getaffinity(0) == before
