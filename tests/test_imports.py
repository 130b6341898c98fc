"""Who may import whom: leaves the foundation, the spine also leaves and what stands to its left, the edge all."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).resolve().parents[1] / "flaxformer_lite"
_FOUNDATION = (
    "errors",
    "drafts",
    "cache",
    "types",
    "config",
    "ranges",
    "checks",
    "schema",
    "hashing",
    "processes",
    "say",
    "locks",
)
_LEAVES = ("data", "models", "decoding", "losses", "metrics", "optim", "sharding", "memory")
_SPINE = (
    *("announced", "workdir", "provenance", "train_state", "objective", "steps", "training", "plan"),
    *(
        "checkpoints",
        "teachers",
        "beginning",
        "inference",
        "watch",
        "compare",
        "run",
        "evaluator",
        "course",
        "loop",
        "seeds",
    ),
)
_EDGE = ("__init__", "cli", "interop", "sweeps")
_FILES = sorted(path.relative_to(_PACKAGE).as_posix() for path in _PACKAGE.rglob("*.py"))


def _part(file: str) -> str:
    """The module or subpackage a file belongs to: ``data`` of data/pipeline.py, ``losses`` of losses.py."""
    return Path(file).with_suffix("").parts[0]


def _imports(file: str) -> Iterator[str]:
    """Dotted names of all that a file imports, inside functions too."""
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno} imports relatively; write the whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _tree(file: str) -> ast.Module:
    return ast.parse((_PACKAGE / file).read_text("utf-8"))


def _may_import(part: str) -> set[str]:
    if part in _FOUNDATION:
        return set(_FOUNDATION[: _FOUNDATION.index(part)])
    if part in _LEAVES:
        return {part, *_FOUNDATION}
    if part in _SPINE:
        return {part, *_FOUNDATION, *_LEAVES, *_SPINE[: _SPINE.index(part)]}
    return {*_FOUNDATION, *_LEAVES, *_SPINE, *_EDGE}


@pytest.mark.parametrize("file", _FILES)
def test_imports_go_one_way(file):
    part = _part(file)
    assert part in (*_FOUNDATION, *_LEAVES, *_SPINE, *_EDGE), f"{file}: say above where it belongs"
    ours = {name.split(".")[1] for name in _imports(file) if name.startswith("flaxformer_lite.")}
    assert ours <= _may_import(part), f"{file} imports {sorted(ours - _may_import(part))}"


@pytest.mark.parametrize("file", [file for file in _FILES if _part(file) == "data"])
def test_data_is_numpy(file):
    assert not {name.split(".")[0] for name in _imports(file)} & {"jax", "flax", "optax", "orbax"}


@pytest.mark.parametrize("file", [file for file in _FILES if _part(file) not in _EDGE])
def test_only_the_edge_knows_flags(file):
    assert not [name for name in _imports(file) if name.startswith(("absl.flags", "ml_collections", "argparse"))]


@pytest.mark.parametrize("file", [file for file in _FILES if _part(file) not in ("sharding", "config")])
def test_mesh_axes_are_named_in_one_place(file):
    words = [node.value for node in ast.walk(_tree(file)) if isinstance(node, ast.Constant)]
    assert not {"fsdp", "tensor"}.intersection(word for word in words if isinstance(word, str))
