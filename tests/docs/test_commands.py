"""Every command of the documents runs, or at least parses with a valid config (documents.py explains the markers)."""

import importlib
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

from flaxformer_lite.cli import main
from flaxformer_lite.config import loading
from tests.docs.documents import blocks, documents, run_bash, script

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [path.relative_to(REPOSITORY).as_posix() for path in documents(REPOSITORY)]
_NEEDS = {"docs/published_models.md": ("ctranslate2", "tokenizers")}  # optional packages of a document's commands
_RUN_ELSEWHERE = ("docs/extending.md",)  # in test_extending.py
# Commands that the parsing of a document replaces: each records its arguments and does nothing.
_RECORDED = ("flaxformer-lite", "pip", "python", "python3", "pytest", "git", "hf", "ruff", "pyright")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_parse(name, tmp_path, monkeypatch):
    _make_folder(tmp_path)
    calls = _recorded_calls(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # files of the document
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for command, *arguments in calls:
        if command == "flaxformer-lite":
            _check_flaxformer_lite(arguments, monkeypatch)
        elif command == "pip":
            named = re.findall(r"\[([\w,]+)\]", " ".join(arguments))
            assert set(",".join(named).split(",")) - {""} <= set(extras), arguments
        elif command.startswith("python") and arguments and arguments[0].endswith(".py"):
            assert any((folder / arguments[0]).is_file() for folder in (REPOSITORY, tmp_path)), arguments


@pytest.mark.parametrize("name", DOCUMENTS)
def test_python_blocks_compile(name):
    for block in blocks(REPOSITORY / name):
        if block.language == "python":
            compile(block.code, block.place, "exec")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_quick_commands_run(name, tmp_path):
    chosen = [block for block in blocks(REPOSITORY / name) if block.mode in ("quick", "file")]
    if any(block.mode == "quick" for block in chosen):
        _make_folder(tmp_path)
        run_bash(script(chosen), tmp_path, _environment(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name not in _RUN_ELSEWHERE])
def test_all_commands_run(name, tmp_path):
    for package in _NEEDS.get(name, ()):
        pytest.importorskip(package)
    chosen = [block for block in blocks(REPOSITORY / name) if block.mode in ("quick", "slow", "file")]
    if any(block.mode == "slow" for block in chosen):
        _make_folder(tmp_path)
        run_bash(script(chosen), tmp_path, _environment(tmp_path))


def _recorded_calls(name, folder):
    """The commands of a document as bash expands them: [command, argument, ...] each."""
    stubs, calls = folder / "stubs", folder / "calls"
    stubs.mkdir()
    calls.touch()
    # Arguments are separated by the control character 1f, commands by 1e. Input is read, or its writer would fail.
    record = f"#!/bin/bash\ncat > /dev/null\nIFS=$'\\x1f'\nprintf '%s\\x1e' \"${{0##*/}}\x1f$*\" >> '{calls}'\n"
    for command in _RECORDED:
        _write_command(stubs / command, record)
    # The commands that these start are recorded instead of them.
    _write_command(stubs / "sbatch", '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec bash "$@"\n')
    _write_command(stubs / "srun", '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n')
    _write_command(
        stubs / "gcloud",
        '#!/bin/bash\nfor word in "$@"; do [[ $word != --command=* ]] || exec bash -ec "${word#--command=}"; done\n',
    )
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()
    (folder / "flaxformer_lite").symlink_to(folder)
    chosen = [block for block in blocks(REPOSITORY / name) if block.language == "bash" or block.mode == "file"]
    environment = os.environ | {"PATH": f"{stubs}:{os.environ['PATH']}"}
    run_bash(script(chosen), folder, environment)
    return [call.split("\x1f") for call in calls.read_text("utf-8").split("\x1e")[:-1]]


def _check_flaxformer_lite(arguments, monkeypatch):
    """The command exists, its flags parse, and its config is valid."""
    if arguments[0].startswith("-"):
        return
    module = importlib.import_module(f"flaxformer_lite.cli.{arguments[0].replace('-', '_')}")
    parsed = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "run", parsed.append)
        assert main.main(arguments) == 0, arguments
    config = getattr(parsed[0], "config", None)
    if config and not config.startswith("runs/"):  # a work directory that the command before it makes
        loading.load(config, parsed[0].overrides)


def _make_folder(folder):
    """A directory with the files that documents assume: the run cards, and some text."""
    for name in ("configs", "launch", "docs"):
        (folder / name).symlink_to(REPOSITORY / name)
    animals = ("cat", "dog", "bird", "fish"), ("Katze", "Hund", "Vogel", "Fisch")
    lines = {"en": [], "de": []}
    for i in range(240):
        lines["en"].append(f"the {animals[0][i % 4]} sees {i % 7 + 2} mats and {i % 11} trees")
        lines["de"].append(f"{animals[1][i % 4]} sieht {i % 7 + 2} Matten und {i % 11} Bäume")
    for split, part in (
        ("train", slice(200)),
        ("val", slice(200, 220)),
        ("dev", slice(200, 220)),
        ("test", slice(220, 240)),
    ):
        for language, text in lines.items():
            (folder / f"{split}.{language}").write_text("".join(f"{line}\n" for line in text[part]), "utf-8")
        pairs = zip(lines["en"][part], lines["de"][part], strict=True)
        (folder / f"{split}.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs), "utf-8")
    (folder / "text.txt").write_text("".join(f"{line}\n" for text in lines.values() for line in text), "utf-8")
    (folder / "words.txt").write_text("abc\ndeadbeef\nfeed\n", "utf-8")
    (folder / "reversed.txt").write_text("cba\nfeebdaed\ndeef\n", "utf-8")


def _environment(folder):
    """Commands run this checkout, on one device, with quick compiles that a document's commands share."""
    commands = folder / "bin"
    commands.mkdir()
    entry = '-c "import sys; from flaxformer_lite.cli.main import main; sys.exit(main())"'
    _write_command(commands / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    _write_command(commands / "flaxformer-lite", f'#!/bin/sh\nexec {sys.executable} {entry} "$@"\n')
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    return kept | {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags,
    }


def _write_command(path, text):
    path.write_text(text, "utf-8")
    path.chmod(0o755)
