import sys
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
from flax import linen as nn

from flaxformer_lite.config.import_path import build, is_import_path, load_target
from flaxformer_lite.config.value_types import Bounds
from flaxformer_lite.errors import InputError

_HERE = "extension_targets"


@dataclass
class Reader:
    path: str
    limit: Annotated[int, Bounds(at_least=1)] = 10
    columns: tuple[str, ...] = ("a", "b")
    mode: Literal["fast", "safe"] = "safe"
    scale: float | None = None
    split: object = None  # provided by the framework
    made: list = field(init=False, default_factory=list)

    def __post_init__(self):
        if self.path == "bad":
            raise ValueError("path must be good")


class Layer(nn.Module):
    width: int
    kernel: int = 3


class Plain:
    pass


def function(x):
    return x


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, _HERE, sys.modules[__name__])


def test_import_paths_are_distinguished_from_names():
    assert all(map(is_import_path, ("a:b", "a.b_1:C", "übung:Klasse", "a:B.C")))
    assert not any(map(is_import_path, ("a", "a.b", "a:", ":b", "a:b:c", "a b:c", "1a:b", "a/b.py:c", "C:\\x:y")))


def test_a_dataclass_gets_its_options_and_the_provided_fields_that_it_declares():
    built = build(f"{_HERE}:Reader", {"path": "x", "columns": ["c"], "scale": 2}, "data.task", split="train", seed=3)
    assert built == Reader("x", columns=("c",), scale=2.0, split="train")
    assert isinstance(built.scale, float)
    assert build(f"{_HERE}:Reader", {"path": "x", "scale": None}, "data.task").scale is None


def test_a_linen_module_is_a_dataclass():
    built = build(f"{_HERE}:Layer", {"kernel": 5}, "model.encoder.kind", width=8)
    assert (built.width, built.kernel, built.name) == (8, 5, None)
    for option in ("parent", "name"):
        with pytest.raises(InputError, match=rf"config\.model\.encoder\.options\.{option}: .* no such option"):
            build(f"{_HERE}:Layer", {option: "x"}, "model.encoder.kind", width=8)


def test_a_function_has_no_options():
    assert build(f"{_HERE}:function", {}, "decode.method") is function
    with pytest.raises(InputError, match=r"config\.decode\.options={'a': 1}: .* is a function, which has no options"):
        build(f"{_HERE}:function", {"a": 1}, "decode.method")
    with pytest.raises(
        InputError, match=rf"config\.decode\.method='{_HERE}:Plain': must name a dataclass or a function"
    ):
        build(f"{_HERE}:Plain", {}, "decode.method")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"\.path: is missing; extension_targets:Reader has no default for it"),
        ({"path": "x", "limt": 1}, r"\.limt: extension_targets:Reader has no such option; did you mean limit\?"),
        ({"path": "x", "zzz": 1}, r"\.zzz: .* no such option; its options are path, limit, columns, mode, scale$"),
        ({"path": "x", "split": "test"}, r"\.split: .* no such option"),
        ({"path": "x", "made": ()}, r"\.made: .* no such option"),
        ({"path": 3}, r"\.path=3: must be a string"),
        ({"path": "x", "limit": 0}, r"\.limit=0: must be at least 1"),
        ({"path": "x", "limit": 1.5}, r"\.limit=1\.5: must be a whole number"),
        ({"path": "x", "columns": "c"}, r"\.columns='c': must be a tuple"),
        ({"path": "x", "mode": "saf"}, r"\.mode='saf': must be one of fast, safe; did you mean safe\?"),
        ({"path": "x", "scale": "y"}, r"\.scale='y': must be a number"),
        ({"path": "bad"}, r"={'path': 'bad'}: extension_targets:Reader refuses it: path must be good"),
    ],
)
@pytest.mark.parametrize(
    ("key", "name"),
    [("data.task", r"config\.data\.options"), ("eval.metrics", r"config\.eval\.metric_options\.Reader")],
)
def test_wrong_options_are_named_as_the_config_names_them(key, name, options, message):
    with pytest.raises(InputError, match=f"^{name}{message}"):
        build(f"{_HERE}:Reader", options, key, split="train")


def test_a_failed_import_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "acme_broken.py").write_text("x = 1\nraise RuntimeError('no license')\n")
    (tmp_path / "acme_needy.py").write_text("import acme_missing_dependency\n")
    (tmp_path / "acme_exits.py").write_text("raise SystemExit(0)\n")
    for path, message in {
        "acme_none:X": r"there is no module acme_none; install its package",
        "acme_none.sub:X": r"there is no module acme_none;",
        "acme_broken:X": r"importing acme_broken failed: RuntimeError: no license \(.*acme_broken\.py, line 2\)",
        "acme_needy:X": r"importing acme_needy failed: ModuleNotFoundError: No module named 'acme_missing_dependency'",
        "acme_exits:X": r"importing acme_exits failed: SystemExit: 0",
        f"{_HERE}:Readr": r"extension_targets has no Readr; did you mean Reader\?",
        "nonsense": "must be an import path module:name",
    }.items():
        with pytest.raises(InputError, match=rf"^config\.data\.task='{path}': {message}"):
            load_target(path, "data.task")
