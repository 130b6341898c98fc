"""``sweep --search=optuna``: its flags, and one with real training."""

import json
import os
import re
import subprocess
import sys

import pytest

from flaxformer_lite.cli.main import main
from tests.micro import flags

_SPACE = """
from flaxformer_lite.sweeps import LogUniform

def space():
    return {"optim.learning_rate": LogUniform(1e-4, 1e-2)}
"""
_COMMAND = [sys.executable, "-c", "import sys; from flaxformer_lite.cli.main import main; sys.exit(main())"]


@pytest.fixture
def place(tmp_path, monkeypatch, repository):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(repository / "configs")
    (tmp_path / "space.py").write_text(_SPACE)
    (tmp_path / "seeds.py").write_text("def sweep():\n    yield {'seed': 0}\n")
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1"))
    monkeypatch.setenv("PYTHONPATH", str(repository))
    return tmp_path


def searching(*more):
    return ["sweep", *flags(), "--sweep=space.py", "--workdir=runs", "--search=optuna", *more]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], r"--trials is missing: .*such as --trials=20"),
        (["--trials=0"], r"--trials=0: must be at least 1"),
        (["--trials=2", "--pruner=mean"], r"invalid choice: 'mean'"),
        (["--trials=2", "--search=grid"], r"invalid choice: 'grid'"),
        (["--trials=2", "--sweep=seeds.py"], r"seeds\.py has no function space\(\); configs/sweeps/space\.py shows"),
        (["--trials=2", "--config.optim.learning_rate=1"], r"the command line sets config\.optim\.learning_rate"),
    ],
)
def test_bad_input_is_one_message_and_makes_nothing(more, message, place, capsys):
    assert main(searching(*more)) == 2
    said = capsys.readouterr()
    assert re.search(message, said.err)
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not (place / "runs").exists()


@pytest.mark.parametrize("flag", ["--trials=3", "--pruner=median"])
def test_flags_of_a_search_need_one(flag, place, capsys):
    assert main(["sweep", *flags(), "--sweep=seeds.py", "--workdir=runs", flag]) == 2
    assert capsys.readouterr().err.endswith(f"{flag}: goes with --search=optuna\n")


def test_where_optuna_is_not_installed_the_extra_is_named(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "flaxformer_lite.sweeps.study", raising=False)
    assert main(searching("--trials=2")) == 2
    assert "not installed (optuna): pip install 'flaxformer-lite[optuna]'\n" in capsys.readouterr().err


def test_a_dry_run_shows_what_comes_first_and_writes_nothing(place, capsys):
    pytest.importorskip("optuna", reason="pip install -e '.[optuna]'")
    for _ in range(2):
        assert main(searching("--trials=5", "--parallel=2", "--dry_run")) == 0
        said = capsys.readouterr()
        assert re.fullmatch(r"(starts +runs/learning_rate=0\.0\d+__\w{8}\n){2}", said.out)
        assert said.err == "2 points: 2 new, 3 to come; 2 at once; nothing was started\n"
    assert not (place / "runs").exists()


@pytest.mark.slow
def test_a_search(place, capsys):
    """Trains, prunes, and is gone on with."""
    pytest.importorskip("optuna", reason="pip install -e '.[optuna]'")

    def search(trials):
        command = [*_COMMAND, *searching(f"--trials={trials}", "--parallel=2", "--pruner=halving")]
        ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stderr

    said = search(3)
    assert re.search(r"\nbest: learning_rate=0\.0\d+  eval/exact_match [\d.]+\n", said) or "2 pruned" in said
    assert re.search(r"\n3 points: .*; all in runs\n$", said)
    assert "Warning" not in said
    folders = sorted(place.glob("runs/learning_rate=*"))
    assert len(folders) == 3
    for folder in folders:
        assert (folder / "finished.json").exists() or json.loads((folder / "pruned.json").read_text())["step"] in (4, 8)
    assert any((folder / "finished.json").exists() for folder in folders)
    logs = [(folder / "log.txt").read_text() for folder in folders]
    assert re.search(r"\n4 points: ", search(4))
    assert [(folder / "log.txt").read_text() for folder in folders] == logs
    assert main(["compare", "runs"]) == 0
    assert "learning_rate" in capsys.readouterr().out
