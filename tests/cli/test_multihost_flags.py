"""Flags of several processes, and the differences between one of several processes and a single one."""

import io
import json
import logging
import os
import subprocess
import sys

import pytest

from flaxformer_lite.checkpoints import work_dir
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.cli import main as cli
from flaxformer_lite.cli import output
from flaxformer_lite.errors import InputError
from flaxformer_lite.monitoring import metric_writer
from flaxformer_lite.system import multihost
from tests.micro_config import flags, micro

PLACE = ["--coordinator=127.0.0.1:1", "--processes=2", "--process=1"]


def run_command(*argv, seconds=60):
    """Exit code and standard error of a command in a process of its own."""
    code = "import json, sys; from flaxformer_lite.cli.main import main; sys.exit(main(json.loads(sys.argv[1])))"
    ended = subprocess.run(
        [sys.executable, "-c", code, json.dumps(argv)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        env={name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "OMPI_"))},
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (PLACE[:1], "--processes and --process: is missing; --coordinator, --processes and --process belong together"),
        (PLACE[1:], "--coordinator: is missing"),
        (["--coordinator=here", *PLACE[1:]], "--coordinator=here: must be HOST:PORT, such as 10.0.0.1:12345"),
        ([*PLACE[:2], "--process=2"], "--process=2: must be from 0 to 1, of --processes=2"),
        ([PLACE[0], "--processes=0", "--process=0"], "--processes=0: must be at least 1"),
        ([*PLACE, "--heartbeat_timeout=0"], "--heartbeat_timeout=0: must be at least 1"),
        (["--proces=1"], "--proces: there is no such flag; did you mean --process?"),
    ],
)
def test_contradictory_flags_are_errors(given, message, repository, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(repository)
    assert cli.main(["train", *flags(), f"--workdir={tmp_path}/run", *given]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_several_processes_do_not_share_standard_input(capsys):
    assert cli.main(["decode", "--workdir=run", *PLACE]) == 2
    assert "--input: several processes cannot share standard input" in capsys.readouterr().err


def test_no_cluster_is_one_message(repository, monkeypatch, tmp_path):
    monkeypatch.chdir(repository)
    code, stderr = run_command("train", *flags(), f"--workdir={tmp_path}/run", "--distributed")
    assert code == 2
    assert "--distributed: no Slurm, Open MPI or Cloud TPU was found that numbers them" in stderr
    assert "--coordinator=HOST:PORT --processes=N --process=I" in stderr
    assert "Traceback" not in stderr


def test_an_unreachable_coordinator_is_reported_in_time(repository, monkeypatch, tmp_path):
    monkeypatch.chdir(repository)
    code, stderr = run_command("train", *flags(), f"--workdir={tmp_path}/run", *PLACE, "--join_timeout=2")
    assert code == multihost.OTHERS_GONE
    last = stderr.splitlines()[-1]
    assert "error: the processes did not all join at 127.0.0.1:1 within 2 s; start all of them" in last


@pytest.fixture
def second(monkeypatch):
    """This process is the second of two; nothing is exchanged."""
    monkeypatch.setattr(multihost, "_group", multihost._Group(index=1, count=2))


@pytest.mark.usefixtures("second")
def test_the_second_process_is_silent_and_writes_nothing(tmp_path, capsys):
    logging.getLogger("flaxformer_lite").info("hello")
    with metric_writer.open_writer(tmp_path / "run", 0) as writer:
        writer.write(1, {"train/loss": 1.0})
        writer.write_samples(1, [("a", "b", "c")])
        writer.draw_plots()
    chunks = iter(["one", "two"])
    output.write(str(tmp_path / "out"), chunks)
    assert list(chunks) == []  # it takes part in computing them
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")
    assert multihost.process_label() == " (process 1 of 2)"


def test_the_second_process_checks_what_the_first_one_wrote(tmp_path, monkeypatch):
    WorkDir(tmp_path / "run").claim(micro())
    monkeypatch.setattr(multihost, "_group", multihost._Group(index=1, count=2))
    assert WorkDir(tmp_path / "run").claim(micro())
    with pytest.raises(InputError, match="holds a run with another config"):
        WorkDir(tmp_path / "run").claim(micro({"seed": 3}))
    monkeypatch.setattr(work_dir, "_VISIBLE_WITHIN", 0)
    with pytest.raises(InputError, match=r"do not exist here; all processes need one directory, on a file system that"):
        WorkDir(tmp_path / "other").claim(micro())


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("UNKNOWN: Gloo all-reduce failed: [pair.cc:538] Read error [127.0.0.1]:52865: Connection reset by peer", True),
        ("INTERNAL: NCCL operation ncclGroupEnd() failed: remote process exited or there was a network error", True),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123 bytes.", False),
    ],
)
@pytest.mark.usefixtures("second")
def test_an_error_of_the_network_is_another_process_that_is_gone(text, gone, monkeypatch):
    from jax.errors import JaxRuntimeError

    codes, stderr = [], io.StringIO()

    def leave(code):
        codes.append(code)
        raise SystemExit

    monkeypatch.setattr(multihost, "_end", leave)
    monkeypatch.setattr(multihost, "_abort_message", lambda: "another process is gone")
    monkeypatch.setattr(sys, "stderr", stderr)
    with pytest.raises(SystemExit):
        multihost.fail(JaxRuntimeError(text))
    assert codes == [multihost.OTHERS_GONE if gone else 1]
    assert text in stderr.getvalue()
    assert ("error (process 1 of 2): another process is gone" in stderr.getvalue()) == gone


def test_one_process_agrees_with_itself():
    assert multihost.all_gather_json({"a": [1, "b"]}) == [{"a": [1, "b"]}]
    agreement = multihost.MaxOverProcesses()
    assert [agreement(number) for number in (0, 15, 0)] == [0, 15, 0]
    with multihost.primary_first():
        assert multihost.is_primary()
    assert multihost.process_label() == ""
    assert multihost.exit_process(3) == 3
