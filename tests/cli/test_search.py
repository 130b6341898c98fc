"""``sweep --search=optuna``: its flags, and a search with real training."""

import json
import os
import re
import subprocess
import sys

import pytest

from flaxformer_lite.cli.main import main
from tests.micro_config import flags

_SPACE = """
from flaxformer_lite.sweeps import LogUniform

def space():
    return {"optim.learning_rate": LogUniform(1e-4, 1e-2)}
"""
_COMMAND = [sys.executable, "-c", "import sys; from flaxformer_lite.cli.main import main; sys.exit(main())"]


@pytest.fixture
def project(tmp_path, monkeypatch, repository):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(repository / "configs")
    (tmp_path / "space.py").write_text(_SPACE)
    (tmp_path / "seeds.py").write_text("def sweep():\n    yield {'seed': 0}\n")
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1"))
    monkeypatch.setenv("PYTHONPATH", str(repository))
    return tmp_path


def search_args(*more):
    return ["sweep", *flags(), "--sweep=space.py", "--workdir=runs", "--search=optuna", *more]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], r"--trials: is missing; .*such as --trials=20"),
        (["--trials=0"], r"--trials=0: must be at least 1"),
        (["--trials=2", "--pruner=mean"], r"invalid choice: 'mean'"),
        (["--trials=2", "--search=grid"], r"invalid choice: 'grid'"),
        (["--trials=2", "--sweep=seeds.py"], r"seeds\.py: has no function space\(\); configs/sweeps/space\.py shows"),
        (["--trials=2", "--config.optim.learning_rate=1"], r"config\.optim\.learning_rate: is already overridden"),
    ],
)
def test_invalid_input_is_one_message_and_creates_nothing(more, message, project, capsys):
    assert main(search_args(*more)) == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err)
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert not (project / "runs").exists()


@pytest.mark.parametrize("flag", ["--trials=3", "--pruner=median"])
def test_search_flags_require_a_search(flag, project, capsys):
    assert main(["sweep", *flags(), "--sweep=seeds.py", "--workdir=runs", flag]) == 2
    assert capsys.readouterr().err.endswith(f"{flag}: requires --search=optuna\n")


def test_the_extra_is_named_where_optuna_is_not_installed(project, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "flaxformer_lite.sweeps.optuna_search", raising=False)
    assert main(search_args("--trials=2")) == 2
    assert "not installed (optuna); pip install 'flaxformer-lite[optuna]'\n" in capsys.readouterr().err


def test_dry_run_shows_the_first_trials_and_writes_nothing(project, capsys):
    pytest.importorskip("optuna", reason="pip install -e '.[optuna]'")
    for _ in range(2):
        assert main(search_args("--trials=5", "--parallel=2", "--dry_run")) == 0
        captured = capsys.readouterr()
        assert re.fullmatch(r"(starts +runs/learning_rate=0\.0\d+__\w{12}\n){2}", captured.out)
        assert captured.err == "2 trials: 2 new, 3 remaining; 2 in parallel; nothing was started\n"
    assert not (project / "runs").exists()


@pytest.mark.slow
def test_a_search(project, capsys):
    """A search trains, prunes and is continued with more trials."""
    pytest.importorskip("optuna", reason="pip install -e '.[optuna]'")

    def search(trials):
        command = [*_COMMAND, *search_args(f"--trials={trials}", "--parallel=2", "--pruner=halving")]
        ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stderr

    output = search(3)
    assert re.search(r"\nbest: learning_rate=0\.0\d+  eval/exact_match [\d.]+\n", output) or "2 pruned" in output
    assert re.search(r"\n3 trials: .*; in runs\n$", output)
    assert "Warning" not in output
    folders = sorted(project.glob("runs/learning_rate=*"))
    assert len(folders) == 3
    for folder in folders:
        assert (folder / "finished.json").exists() or json.loads((folder / "pruned.json").read_text())["step"] in (4, 8)
    assert any((folder / "finished.json").exists() for folder in folders)
    logs = [(folder / "log.txt").read_text() for folder in folders]
    assert re.search(r"\n4 trials: ", search(4))
    assert [(folder / "log.txt").read_text() for folder in folders] == logs
    assert main(["compare", "runs"]) == 0
    assert "learning_rate" in capsys.readouterr().out
