import importlib
import logging
import os
import re
import subprocess
import sys
import time

import pytest

import flaxformer_lite
from flaxformer_lite.cli import main as cli

_COMMANDS = ["train", "sweep", "decode", "evaluate", "average", "checkpoints", "compare", "plan", "data", "vocab"]


def _fails_with(capsys, *argv: str) -> str:
    """Runs a command that must end in one line on standard error and exit code 2; returns the line."""
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("flaxformer-lite: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("command", [[], *([name] for name in _COMMANDS)])
def test_help_is_quick_and_complete(command, repository):
    code = (
        f"import sys; sys.argv = ['flaxformer-lite', *{command}, '--help']\n"
        "from flaxformer_lite.cli.main import main\n"
        "try: code = main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'jax', 'flax', 'grain', 'tensorflow_datasets', 'matplotlib'} & sys.modules.keys()\n"
        "sys.exit(code or ', '.join(heavy) or 0)\n"
    )
    start = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert time.monotonic() - start < 2
    assert result.returncode == 0, result.stderr
    for word in ("usage: flaxformer-lite", "xamples:", "--"):
        assert word in result.stdout


def test_train_py_is_the_train_command(repository, tmp_path):
    result = subprocess.run(
        [sys.executable, repository / "train.py", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: flaxformer-lite train")


def test_no_command_lists_the_commands(capsys):
    assert cli.main([]) == 2
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in _COMMANDS)


def test_an_unknown_command_names_the_nearest(capsys):
    assert "trian: there is no such command; did you mean train?" in _fails_with(capsys, "trian")


def test_an_unknown_flag_names_the_nearest(capsys):
    message = _fails_with(capsys, "train", "--confg=configs/tiny.py", "--workdir=x")
    assert "--confg: there is no such flag; did you mean --config?" in message


def test_missing_flags_are_named(capsys, repository):
    assert "--config: is missing; name a run card" in _fails_with(capsys, "train", "--workdir=x")
    assert "--workdir: is missing" in _fails_with(capsys, "train", f"--config={repository}/configs/tiny.py")
    assert "expected one argument" in _fails_with(capsys, "train", "--workdir")
    assert "unrecognized arguments: 3" in _fails_with(capsys, "train", "--workdir=x", "3")


def test_overrides_are_refused_where_nothing_takes_them(capsys):
    message = _fails_with(capsys, "decode", "--workdir=x", "--config.decode.beam_size=3")
    assert "--config.decode.beam_size=3: decode reads its config from the work directory" in message


def test_ctrl_c_ends_with_one_line(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    assert cli.main(["train"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flaxformer-lite: interrupted; nothing was saved since the last checkpoint")


def test_the_version_is_that_of_the_package(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"flaxformer-lite {flaxformer_lite.__version__}\n"
    assert re.fullmatch(r"\d+\.\d+.*", flaxformer_lite.__version__)


def test_run_cards_are_listed(capsys):
    assert cli.main(["configs"]) == 0
    assert re.search(r"\n  tiny +Reverse short strings: ", capsys.readouterr().out)


@pytest.mark.parametrize(("flag", "level"), [("--quiet", "WARNING"), ("--verbose", "DEBUG"), (None, "INFO")])
def test_quiet_and_verbose_set_the_number_of_messages(flag, level):
    assert cli.main(["configs", *([flag] if flag else [])]) == 0
    assert logging.getLevelName(logging.getLogger("flaxformer_lite").level) == level


def test_commands_find_modules_of_the_current_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "of_the_user.py").write_text("x = 1\n")
    assert cli.main(["configs"]) == 0
    assert importlib.import_module("of_the_user").x == 1


def test_a_closed_pipe_is_no_error(repository):
    code = "from flaxformer_lite.cli import main as m; m._HELP *= 10_000; raise SystemExit(m.main(['--help']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=repository,
        env=os.environ | {"PYTHONUNBUFFERED": ""},  # unbuffered, Python loses a partial write and its error
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.read(10)
    process.stdout.close()
    with process:
        assert process.stderr.read() == b""
    assert process.returncode == 141
