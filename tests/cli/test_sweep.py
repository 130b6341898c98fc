"""The command, with real training."""

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
from flaxformer_lite.sweeps.trial_dir import PointFolder
from tests.micro import flags, small_disk
from tests.runs import MEASURED

_COMMAND = [sys.executable, "-c", "import sys; from flaxformer_lite.cli.main import main; sys.exit(main())"]


@pytest.fixture
def place(tmp_path, monkeypatch, repository):
    """A folder with the configs and a sweep file, and an environment of one device."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(repository / "configs")
    (tmp_path / "seeds.py").write_text("def sweep():\n    for seed in (0, 1):\n        yield {'seed': seed}\n")
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1"))
    monkeypatch.setenv("PYTHONPATH", str(repository))
    return tmp_path


def sweeping(*more, **changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    return ["sweep", *flags(changes), "--sweep=seeds.py", "--workdir=runs", *more]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--parallel=0"], r"--parallel=0: must be at least 1"),
        (["--slurm=time=3"], r"--slurm=time=3: goes with --launcher=slurm"),
        (["--launcher=slurm", "--slurm=time"], r"--slurm=time: must be KEY=VALUE"),
        (["--launcher=slurm"], r"there is no sbatch on this machine"),
        (["--launcher=kubernetes"], r"invalid choice: 'kubernetes'"),
        (["--sweep=sed.py"], r"--sweep=sed\.py: there is no such file"),
        (["--config.seed=3"], r"the command line sets config\.seed for all points"),
        (["--config.model.encoder.num_heads=5"], r"point 1 of 2, {'seed': 0}: .*num_heads"),
        (["--workdir="], r"--workdir is missing"),
        (["--workdir=configs/tiny.py"], r"configs/tiny\.py: cannot be written .*; name another place"),
    ],
)
def test_bad_input_is_one_message_and_makes_nothing(more, message, place, capsys):
    assert main(sweeping(*more)) == 2
    said = capsys.readouterr()
    assert re.search(message, said.err)
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not (place / "runs").exists()


def test_a_full_disk_is_one_message(place, capsys):
    with small_disk(place / "small", "8k"):
        (place / "small" / "filler").write_bytes(b"x" * 8192)
        assert main(sweeping("--workdir=small/runs")) == 2
        assert "the disk is full" in capsys.readouterr().err


def test_a_dry_run_starts_nothing(place, capsys):
    assert main(sweeping("--dry_run", "--parallel=2")) == 0
    said = capsys.readouterr()
    assert re.fullmatch(r"(starts +runs/seed=[01]__\w{8}\n){2}", said.out)
    assert said.err == "2 points: 2 new; 2 at once; nothing was started\n"
    assert not (place / "runs").exists()


def test_a_sweep(place, capsys):
    """Two points train; one cannot, is told, and does not stop them. A second call does what is left."""
    lost = {"data.task": "text", "data.text.train": ("lost.tsv",), "data.text.validation": ("lost.tsv",)}
    with (place / "seeds.py").open("a") as file:
        file.write(f"    yield {lost!r}\n")
    ended = subprocess.run([*_COMMAND, *sweeping("--parallel=2")], stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "lost.tsv: there is no such file" in ended.stderr
    assert "3 points: 2 done, 1 failed; all in runs\n" in ended.stderr
    assert "Traceback" not in ended.stderr
    folders = sorted(path for path in (place / "runs").iterdir() if not path.name.startswith("."))
    *done, failed = folders  # task=… comes after seed=…
    assert re.search(rf"its log: runs/{failed.name}/log\.txt\n", ended.stderr)
    assert "lost.tsv: there is no such file" in (failed / "log.txt").read_text()
    for seed, folder in enumerate(done):
        assert json.loads((folder / "config.json").read_text())["seed"] == seed
        assert json.loads((folder / "finished.json").read_text())["step"] == 12

    before = [(folder / "finished.json").stat().st_mtime_ns for folder in done]
    assert main(sweeping("--dry_run")) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["done", "done", "failed;"]
    assert main(sweeping()) == 1
    assert "3 points: 2 done, 1 failed" in capsys.readouterr().err
    assert [(folder / "finished.json").stat().st_mtime_ns for folder in done] == before
    assert [(folder / "log.txt").read_text().count("--- ") for folder in folders] == [1, 1, 2]


@pytest.mark.slow
def test_sweeps_that_are_stopped_and_killed_end_as_if_they_had_not_been(place):
    changes = {"train__steps": 60, "train__eval_every": 20, "train__save_every": 7}
    command = [*_COMMAND, *sweeping("--parallel=2", **changes)]
    with (place / "seeds.py").open("a") as file:
        file.write("    yield {'seed': 2}\n")

    def begin():
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)

    def folders():
        return [PointFolder(path) for path in sorted((place / "runs").glob("seed=*"))]

    def await_step(step):
        """Until a run that is at work has come so far."""
        end = time.monotonic() + 200
        while not any(f.at_work() and f.progress("eval/exact_match").step >= step for f in folders()):
            assert time.monotonic() < end
            time.sleep(0.02)

    with begin() as stopped:
        await_step(5)
        stopped.send_signal(signal.SIGINT)
    assert stopped.returncode == 130
    assert not any(folder.at_work() for folder in folders())
    assert any("stopped and saved at step" in folder.log.read_text() for folder in folders())

    with begin() as killed:
        await_step(25)
        os.killpg(killed.pid, signal.SIGKILL)  # and not the jobs, which are not of its group
    assert any(folder.at_work() for folder in folders()), "they go on"

    with begin() as again:
        await_step(45)
        os.killpg(again.pid, signal.SIGKILL)
        for folder in folders():
            if holder := folder.at_work():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(holder.pid, signal.SIGKILL)
    assert not all(folder.finish() for folder in folders())

    finished = {f.path: (f.path / "finished.json").stat().st_mtime_ns for f in folders() if f.finish()}
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
            texts = [(path / name).read_text() for path in (folder.path, place / "alone" / str(seed))]
            one, other = (re.sub(rf'"({"|".join(MEASURED)})": [^,}}]*', "", text) for text in texts)
            assert one == other, f"{name} of seed {seed}"
