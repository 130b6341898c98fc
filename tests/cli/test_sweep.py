"""The sweep command, with real training."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from flaxformer_lite.cli.main import main
from flaxformer_lite.sweeps.trial_dir import TrialDir
from tests.micro_config import flags, small_disk
from tests.training_runs import MEASURED

_COMMAND = [sys.executable, "-c", "import sys; from flaxformer_lite.cli.main import main; sys.exit(main())"]


@pytest.fixture
def project(tmp_path, monkeypatch, repository):
    """A working directory with run cards and a sweep file, for processes with one device."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(repository / "configs")
    (tmp_path / "seeds.py").write_text("def sweep():\n    for seed in (0, 1):\n        yield {'seed': seed}\n")
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1"))
    monkeypatch.setenv("PYTHONPATH", str(repository))
    return tmp_path


def sweep_args(*more, **changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    return ["sweep", *flags(changes), "--sweep=seeds.py", "--workdir=runs", *more]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--parallel=0"], r"--parallel=0: must be at least 1"),
        (["--slurm=time=3"], r"--slurm=time=3: requires --launcher=slurm"),
        (["--launcher=slurm", "--slurm=time"], r"--slurm=time: must be KEY=VALUE"),
        (["--launcher=slurm"], r"there is no sbatch on this machine"),
        (["--launcher=kubernetes"], r"invalid choice: 'kubernetes'"),
        (["--sweep=sed.py"], r"--sweep=sed\.py: there is no such file"),
        (["--config.seed=3"], r"config\.seed: is already overridden for all trials"),
        (["--config.model.encoder.num_heads=5"], r"trial 1 of 2, {'seed': 0}: .*num_heads"),
        (["--workdir="], r"--workdir: is missing"),
        (["--workdir=configs/tiny.py"], r"configs/tiny\.py: cannot be written .*"),
    ],
)
def test_invalid_input_is_one_message_and_creates_nothing(more, message, project, capsys):
    assert main(sweep_args(*more)) == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err)
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert not (project / "runs").exists()


def test_a_full_disk_is_one_message(project, capsys):
    with small_disk(project / "small", "8k"):
        (project / "small" / "filler").write_bytes(b"x" * 8192)
        assert main(sweep_args("--workdir=small/runs")) == 2
        assert "the disk is full" in capsys.readouterr().err


def test_a_dry_run_starts_nothing(project, capsys):
    assert main(sweep_args("--dry_run", "--parallel=2")) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(r"(starts +runs/seed=[01]__\w{12}\n){2}", captured.out)
    assert captured.err == "2 trials: 2 new; 2 in parallel; nothing was started\n"
    assert not (project / "runs").exists()


def test_a_sweep(project, capsys):
    """Two trials train and one fails, which does not stop the others; a second call runs only the failed one."""
    lost = {"data.task": "text", "data.text.train": ("lost.tsv",), "data.text.validation": ("lost.tsv",)}
    with (project / "seeds.py").open("a") as file:
        file.write(f"    yield {lost!r}\n")
    untested = {"eval__metrics": (), "eval__best_metric": "loss"}  # decoding is not compiled
    ended = subprocess.run(
        [*_COMMAND, *sweep_args("--parallel=2", **untested)], stderr=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert "lost.tsv: there is no such file" in ended.stderr
    assert "3 trials: 2 done, 1 failed; in runs\n" in ended.stderr
    assert "Traceback" not in ended.stderr
    folders = sorted(path for path in (project / "runs").iterdir() if not path.name.startswith("."))
    *done, failed = folders  # task=… comes after seed=…
    assert re.search(rf"log: runs/{failed.name}/log\.txt\n", ended.stderr)
    assert "lost.tsv: there is no such file" in (failed / "log.txt").read_text()
    for seed, folder in enumerate(done):
        assert json.loads((folder / "config.json").read_text())["seed"] == seed
        assert json.loads((folder / "finished.json").read_text())["step"] == 12

    before = [(folder / "finished.json").stat().st_mtime_ns for folder in done]
    assert main(sweep_args("--dry_run", **untested)) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["done", "done", "failed;"]
    assert main(sweep_args(**untested)) == 1
    assert "3 trials: 2 done, 1 failed" in capsys.readouterr().err
    assert [(folder / "finished.json").stat().st_mtime_ns for folder in done] == before
    assert [(folder / "log.txt").read_text().count("--- ") for folder in folders] == [1, 1, 2]


@pytest.mark.slow
def test_stopped_and_killed_sweeps_equal_uninterrupted_training(project):
    changes = {"train__steps": 60, "train__eval_every": 20, "train__save_every": 7}
    command = [*_COMMAND, *sweep_args("--parallel=2", **changes)]
    with (project / "seeds.py").open("a") as file:
        file.write("    yield {'seed': 2}\n")

    def begin():
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)

    def folders():
        return [TrialDir(path) for path in sorted((project / "runs").glob("seed=*"))]

    def await_step(step):
        """Waits until a running job has recorded this step."""
        end = time.monotonic() + 200
        while not any(f.job_process() and f.progress("eval/exact_match").step >= step for f in folders()):
            assert time.monotonic() < end
            time.sleep(0.02)

    with begin() as stopped:
        await_step(5)
        stopped.send_signal(signal.SIGINT)
    assert stopped.returncode == 130
    assert not any(folder.job_process() for folder in folders())
    assert any("stopped and saved at step" in folder.log.read_text() for folder in folders())

    with begin() as killed:
        await_step(25)
        os.killpg(killed.pid, signal.SIGKILL)  # and not the jobs, which are not of its group
    assert any(folder.job_process() for folder in folders()), "jobs outlive the sweep"

    with begin() as again:
        await_step(45)
        os.killpg(again.pid, signal.SIGKILL)
        for folder in folders():
            if holder := folder.job_process():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(holder.pid, signal.SIGKILL)
    assert not all(folder.result() for folder in folders())

    finished = {f.path: (f.path / "finished.json").stat().st_mtime_ns for f in folders() if f.result()}
    logs = {path: (path / "log.txt").read_text() for path in finished}
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for path, written in finished.items():
        assert (path / "finished.json").stat().st_mtime_ns == written
        assert (path / "log.txt").read_text() == logs[path]

    for seed, folder in enumerate(folders()):
        changes = {"train.steps": 60, "train.eval_every": 20, "train.save_every": 7, "seed": seed}
        alone = [*_COMMAND, "train", *flags(changes), f"--workdir=alone/{seed}"]
        subprocess.run(alone, stderr=subprocess.DEVNULL, check=True)
        for name in ("metrics.jsonl", "samples.txt", "checkpoints/60/run/metadata"):  # it has the arrays' checksums
            texts = [(path / name).read_text() for path in (folder.path, project / "alone" / str(seed))]
            one, other = (re.sub(rf'"({"|".join(MEASURED)})": [^,}}]*', "", text) for text in texts)
            assert one == other, f"{name} of seed {seed}"
