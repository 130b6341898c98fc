"""The import order of all folders: a stage imports itself and the stages before it, never a later one."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).resolve().parents[1] / "flaxformer_lite"
_STAGES = (
    ("types", "decoding_types", "errors", "checksum"),
    ("config", "system"),
    ("data", "metrics", "models", "decoding", "sharding"),
    ("train_step",),
    ("checkpoints",),
    ("inference", "monitoring"),
    ("training",),
    ("plan", "compare", "sweeps", "interop"),
    ("__init__", "cli"),
)
_NUMBER = {folder: number for number, stage in enumerate(_STAGES) for folder in stage}
_FILES = sorted(path.relative_to(_PACKAGE).as_posix() for path in _PACKAGE.rglob("*.py"))


def _folder(file: str) -> str:
    """``data`` of data/pipeline.py, ``types`` of types.py."""
    return Path(file).with_suffix("").parts[0]


def _imports(file: str) -> Iterator[str]:
    """Dotted names of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse((_PACKAGE / file).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno} imports relatively; use the absolute name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_top_level_has_at_most_six_modules():
    assert len([file for file in _FILES if "/" not in file]) <= 6


@pytest.mark.parametrize("file", _FILES)
def test_imports_follow_the_order_of_stages(file):
    folder = _folder(file)
    assert folder in _NUMBER, f"{file}: add its folder to a stage above"
    imported = {name.split(".")[1] for name in _imports(file) if name.startswith("flaxformer_lite.")}
    later = {name for name in imported if _NUMBER.get(name, 0) > _NUMBER[folder]}
    assert not later, f"{file} imports later stages: {sorted(later)}"


@pytest.mark.parametrize("folder", ["errors", "types", "config", "system", "data"])
def test_numpy_stages_do_not_import_jax(folder):
    path = _PACKAGE / folder
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    names = [".".join(("flaxformer_lite", *file.relative_to(_PACKAGE).with_suffix("").parts)) for file in files]
    names = [name.removesuffix(".__init__") for name in names if name != "flaxformer_lite.data.pipeline"]
    imports = "; ".join(f"import {name}" for name in sorted(names))
    code = f"import sys; {imports}; print({{'jax', 'grain'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("file", [file for file in _FILES if _folder(file) != "cli"])
def test_only_the_cli_parses_flags(file):
    assert not [name for name in _imports(file) if name.startswith("argparse")]


@pytest.mark.parametrize("file", [file for file in _FILES if _folder(file) not in ("sharding", "config")])
def test_mesh_axes_are_named_in_one_place(file):
    constants = [
        node.value
        for node in ast.walk(ast.parse((_PACKAGE / file).read_text("utf-8")))
        if isinstance(node, ast.Constant)
    ]
    assert not {"fsdp", "tensor"}.intersection(word for word in constants if isinstance(word, str))
