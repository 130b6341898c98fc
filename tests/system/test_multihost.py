"""Two processes of four devices each, over loopback, against one of eight; signals, and the death of a process."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from flaxformer_lite.cli.main import main
from flaxformer_lite.system import multihost
from tests.marks import slow_except
from tests.micro_config import flags
from tests.training_runs import MEASURED

_ALL = "import json, sys; from flaxformer_lite.cli.main import main; sys.exit(max(map(main, json.loads(sys.argv[1]))))"
_ACROSS = {"mesh.data": 1, "mesh.fsdp": 8}  # each process has half of the parameters
_HEARTBEAT = 10


Meeting = Callable[[int], tuple[list[str], dict[str, str]]]  # flags and environment of a process


def by_flags() -> Meeting:
    """Processes that meet at a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"--coordinator=127.0.0.1:{free.getsockname()[1]}"
    return lambda number: ([address, "--processes=2", f"--process={number}"], {})


def by_slurm() -> Meeting:
    """Processes that are tasks of a Slurm job, whose number determines the port."""
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}

    def meet(number: int) -> tuple[list[str], dict[str, str]]:
        return ["--distributed"], job | {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)}

    return meet


class Pair:
    """Two processes that run the same commands; their standard errors are ``err0`` and ``err1`` in ``folder``."""

    def __init__(self, folder: Path, repository: Path, commands: Sequence[Sequence[str]], meeting: Meeting):
        folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4"),
            "XDG_CACHE_HOME": str(folder.parent / "cache"),  # restarts compile nothing
            "JAX_ENABLE_COMPILATION_CACHE": "true",
        }
        self.stderr = [folder / "err0", folder / "err1"]
        self._out = [folder / "out0", folder / "out1"]
        self._processes = []
        for number in (0, 1):
            place, variables = meeting(number)
            first, *others = map(list, commands)
            first += [*place, "--join_timeout=120", f"--heartbeat_timeout={_HEARTBEAT}"]
            with self._out[number].open("w") as out, self.stderr[number].open("w") as err:
                arguments = [sys.executable, "-c", _ALL, json.dumps([first, *others])]
                self._processes.append(
                    subprocess.Popen(arguments, cwd=repository, env=environment | variables, stdout=out, stderr=err)
                )

    def wait_for(self, pattern: str) -> None:
        """Waits until the standard error of process 0 matches."""
        while not re.search(pattern, self.text(0)):
            assert self._processes[0].poll() is None, self.text(0)
            time.sleep(0.02)

    def send(self, number: int, signal_number: int) -> None:
        """Sends a signal to a process."""
        self._processes[number].send_signal(signal_number)

    def codes(self, seconds: float) -> list[int]:
        """Exit codes of both, within this number of seconds."""
        return [process.wait(seconds) for process in self._processes]

    def text(self, number: int) -> str:
        """Standard error of a process, without the lines of the CPU's network library."""
        lines = self.stderr[number].read_text().splitlines(keepends=True)
        return "".join(line for line in lines if "[Gloo]" not in line and "peer ranks" not in line)

    def output(self, number: int) -> str:
        """Standard output of a process."""
        return self._out[number].read_text()

    def end(self) -> None:
        """Kills both processes."""
        for process in self._processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def pair(
    folder: Path, repository: Path, commands: Sequence[Sequence[str]], meeting: Callable[[], Meeting] = by_flags
) -> Iterator[Pair]:
    started = Pair(folder, repository, commands, meeting())
    try:
        yield started
    finally:
        started.end()


def train(workdir, changes):
    return ["train", *flags(changes), f"--workdir={workdir}"]


def uses(workdir, folder):
    """Commands that use a trained model; ``folder`` has the lines to decode."""
    return [
        ["evaluate", f"--workdir={workdir}", "--step=latest", "--json"],
        ["decode", f"--workdir={workdir}", "--step=latest", f"--input={folder}/lines", "--beam_size=3", "--scores",
         f"--output={workdir}.decoded"],
        ["score", f"--workdir={workdir}", "--step=latest", f"--source={folder}/lines", f"--target={folder}/lines",
         f"--output={workdir}.scored"],
    ]  # fmt: skip


def record(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


def checksums(workdir, step):
    return json.loads((workdir / "checkpoints" / str(step) / "run" / "metadata").read_text())["checksums"]


def numbers(path):
    return [float(line.split("\t")[0]) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    (folder / "lines").write_text("abc\nd\n\nhgfa\nbbb\n" * 3)
    return folder


@pytest.fixture(scope="module")
def together(folder, repository):
    """The work directory of an uninterrupted run by two processes, and their standard outputs."""
    workdir = folder / "together"
    with pair(folder / "output", repository, [train(workdir, _ACROSS), *uses(workdir, folder)]) as both:
        assert both.codes(300) == [0, 0], both.text(0) + both.text(1)
        assert "evaluation at step 12" in both.text(0)
        assert both.text(1) == ""
        yield workdir, both.output(0), both.output(1)


@pytest.fixture(scope="module")
def alone(folder):
    """The work directory of the same run by one process on eight devices."""
    workdir = folder / "alone"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(__file__).parents[1])
        for command in (train(workdir, {}), *uses(workdir, folder)):
            assert main(command) == 0
    return workdir


@pytest.mark.slow
def test_two_processes_equal_one(together, alone, folder):
    workdir, printed, printed_by_other = together
    for ours, theirs in zip(record(workdir), record(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert (workdir / "samples.txt").read_text() == (alone / "samples.txt").read_text()
    assert json.loads(printed)["metrics"]["loss"] == pytest.approx(record(alone)[-1]["eval/loss"], rel=1e-4)
    assert printed_by_other == ""
    decoded = [(folder / f"{name}.decoded").read_text().splitlines() for name in ("together", "alone")]
    assert [line.split("\t")[1] for line in decoded[0]] == [line.split("\t")[1] for line in decoded[1]]
    for kind in ("decoded", "scored"):
        ours, theirs = (numbers(folder / f"{name}.{kind}") for name in ("together", "alone"))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert len(decoded[0]) == 15


def without_the_last(workdir, copy):
    """A copy of a run whose last checkpoint is gone."""
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "checkpoints" / "12")
    return copy


@pytest.mark.slow
def test_one_process_resumes_a_run_of_two(together, alone, folder, repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    moved = without_the_last(together[0], folder / "to_one")
    assert main(train(moved, {})) == 0
    assert "resuming from step 9" in capsys.readouterr().err
    for ours, theirs in zip(record(moved), record(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.slow
def test_two_processes_resume_a_run_of_one(alone, folder, repository):
    moved = without_the_last(alone, folder / "to_two")
    with pair(folder / "output_to_two", repository, [train(moved, _ACROSS)]) as both:
        assert both.codes(300) == [0, 0], both.text(0) + both.text(1)
        assert "resuming from step 9" in both.text(0)
    for ours, theirs in zip(record(moved), record(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0])
def test_when_a_process_is_killed_the_other_ends_and_the_next_start_resumes(victim, together, folder, repository):
    name = f"killed{victim}"
    command = train(folder / name, _ACROSS)
    with pair(folder / f"output_{name}", repository, [command]) as both:
        both.wait_for("step +5/12")
        both.send(victim, signal.SIGKILL)
        start = time.monotonic()
        codes = both.codes(60)
        assert codes[victim] == -signal.SIGKILL
        assert codes[1 - victim] == multihost.OTHERS_GONE
        assert time.monotonic() - start < _HEARTBEAT + 10
        last = both.text(1 - victim).splitlines()[-1]
    found = re.search(r"another process is gone .* the same command on all of them resumes from step (\d+)", last)
    assert found, last
    assert f"process {1 - victim} of 2" in last
    with pair(folder / f"output_{name}_again", repository, [command]) as both:
        assert both.codes(300) == [0, 0], both.text(0) + both.text(1)
        assert "compiling" not in both.text(1)
        if step := int(found[1]):
            assert f"resuming from step {step}" in both.text(0)
    workdir = together[0]
    assert record(folder / name) == record(workdir)
    assert checksums(folder / name, 12) == checksums(workdir, 12)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "name", "code"), [(1, signal.SIGTERM, 143), (0, signal.SIGINT, 130)])
def test_a_signal_to_one_stops_all_after_the_same_step(number, name, code, together, folder, repository):
    run = f"stopped{number}"
    command = train(folder / run, _ACROSS)
    with pair(folder / f"output_{run}", repository, [command]) as both:
        both.wait_for("step +5/12")
        both.send(number, name)
        assert both.codes(120) == [code, code], both.text(0) + both.text(1)
        found = re.search(r"stopped and saved at step (\d+); the same command resumes from there", both.text(0))
    assert found
    assert checksums(folder / run, int(found[1]))
    with pair(folder / f"output_{run}_again", repository, [command]) as both:
        assert both.codes(300) == [0, 0], both.text(0) + both.text(1)
        assert f"resuming from step {found[1]}," in both.text(0)
    assert record(folder / run) == record(together[0])
    assert checksums(folder / run, 12) == checksums(together[0], 12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mesh.data": 2, "mesh.fsdp": 4},
        {"mesh.data": 1, "mesh.tensor": 2, "mesh.fsdp": 4},
        {"parallel.mode": "pmap", "model.encoder.dropout": 0.0},
        {"train.ema_decay": 0.8},
    ],
    ids=["data=8", "data=2, fsdp=4", "fsdp=4, tensor=2", "pmap", "moving average"],
)
def test_any_layout_gives_the_same_run_on_two_processes(changes, tmp_path, repository, monkeypatch):
    monkeypatch.chdir(repository)
    together, alone = tmp_path / "together", tmp_path / "alone"
    with pair(tmp_path / "output", repository, [train(together, changes)]) as both:
        assert main(train(alone, {k: v for k, v in changes.items() if not k.startswith("mesh")})) == 0
        assert both.codes(400) == [0, 0], both.text(0) + both.text(1)
    for ours, theirs in zip(record(together), record(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.slow
def test_a_checkpoint_that_one_process_cannot_read_is_renamed_by_all(tmp_path, repository):
    """A part of it that only one process reads is damaged."""
    # Smaller parts are all in one file, which every process reads.
    command = train(
        tmp_path / "run", _ACROSS | {"train.keep_latest": 9, "model.encoder.width": 64, "model.encoder.mlp_dim": 256}
    )
    with pair(tmp_path / "output", repository, [command]) as both:
        assert both.codes(300) == [0, 0], both.text(0) + both.text(1)
    before = checksums(tmp_path / "run", 12)
    parts = tmp_path / "run" / "checkpoints" / "12" / "params" / "ocdbt.process_1" / "d"
    largest = max(parts.iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    with pair(tmp_path / "output_again", repository, [command]) as both:
        assert both.codes(300) == [0, 0], both.text(0) + both.text(1)
        assert re.search(r"checkpoint .*/12 is damaged \(.*\); renamed to damaged\.12", both.text(0)), both.text(0)
        assert "resuming from step 9" in both.text(0)
    assert (tmp_path / "run" / "checkpoints" / "damaged.12").is_dir()
    assert checksums(tmp_path / "run", 12) == before


@pytest.mark.parametrize("meeting", slow_except([by_slurm], [by_flags, by_slurm]))
def test_an_error_names_its_process_and_no_process_waits(meeting, folder, repository):
    command = ["train", *flags({"mesh.data": 3}), f"--workdir={folder}/never"]
    with pair(folder / f"output_{meeting.__name__}", repository, [command], meeting) as both:
        codes = both.codes(60)
        assert 2 in codes
        assert set(codes) <= {2, multihost.OTHERS_GONE}
        who = codes.index(2)
        assert f"error (process {who} of 2): config.mesh.data=3" in both.text(who)
    assert not (folder / "never").exists()
