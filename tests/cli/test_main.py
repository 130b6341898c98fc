import os
import subprocess
import sys
import time

import pytest

from flaxformer_lite.cli import main as cli

_COMMANDS = ["train", "sweep", "decode", "evaluate", "average", "checkpoints", "compare", "plan", "data"]


def _fails_with(capsys, *argv: str) -> str:
    """Runs a command that must end in one line on standard error and exit code 2; returns the line."""
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("flaxformer-lite: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("command", [[], *([name] for name in _COMMANDS)])
def test_help_is_quick_and_teaches(command, repository):
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


def test_no_command_shows_what_there_is(capsys):
    assert cli.main([]) == 2
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in _COMMANDS)


def test_an_unknown_command_brings_the_nearest(capsys):
    assert "trian: there is no such command; did you mean train?" in _fails_with(capsys, "trian")


def test_an_unknown_flag_brings_the_nearest(capsys):
    message = _fails_with(capsys, "train", "--confg=configs/tiny.py", "--workdir=x")
    assert "--confg: there is no such flag; did you mean --config?" in message


def test_what_is_missing_is_named(capsys, repository):
    assert "--config is missing" in _fails_with(capsys, "train", "--workdir=x")
    assert "--workdir is missing" in _fails_with(capsys, "train", f"--config={repository}/configs/tiny.py")
    assert "expected one argument" in _fails_with(capsys, "train", "--workdir")
    assert "unrecognized arguments: 3" in _fails_with(capsys, "train", "--workdir=x", "3")


def test_overrides_are_refused_where_nothing_takes_them(capsys):
    message = _fails_with(capsys, "decode", "--workdir=x", "--config.decode.beam_size=3")
    assert "--config.decode.beam_size=3: decode reads its settings from the work folder" in message


def test_ctrl_c_ends_quietly(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    assert cli.main(["train"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_who_goes_away_is_no_error(repository):
    code = "from flaxformer_lite.cli import main as m; m._HELP *= 10_000; raise SystemExit(m.main(['--help']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=repository,
        env=os.environ | {"PYTHONUNBUFFERED": ""},  # unbuffered, Python loses a write that is cut short, and the error
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.read(10)
    process.stdout.close()
    with process:
        assert process.stderr.read() == b""
    assert process.returncode == 141
