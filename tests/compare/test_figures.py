from pathlib import Path

import numpy as np
import pytest

from flaxformer_lite.compare import figures
from flaxformer_lite.compare.comparison import Comparison, Curve, RunRecord
from tests.compare.fake_sweep import sweep


def _size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_a_sweep_has_one_figure_per_setting(tmp_path):
    paths = figures.draw(sweep(100, 30), tmp_path / "new" / "folder")
    names = ["curves.png", "by_optim.learning_rate.png", "by_model.encoder.width.png", "by_optim.optimizer.png"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(names)
    for path in paths:
        width, height = _size(path)
        assert 1000 < width < 1300
        assert 500 < height < 1000
        assert path.stat().st_size < 500_000


def test_one_run_has_only_curves(tmp_path):
    assert [path.name for path in figures.draw(sweep(1, 9), tmp_path)] == ["curves.png"]


def test_seed_is_a_setting_where_nothing_else_differs(tmp_path):
    assert [path.name for path in figures.draw(sweep(3, 9, seeds=3), tmp_path)] == ["curves.png", "by_seed.png"]


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf, 1.0], [0.0, 0.0]])
def test_unusual_values_and_names(values, tmp_path):
    curves = {"eval/wer": Curve(np.arange(len(values)), np.array(values, float))} if values else {}
    rows = [("$x_{", (1, 2), 0.0), ("_hidden", (), 1e-9), ("<b>", ("a$",), 5.0)]
    runs = tuple(RunRecord(name, Path(name), {"k": a, "rate": b}, curves, True) for name, a, b in rows)
    assert len(figures.draw(Comparison(runs, ("k", "rate", "absent"), "eval/wer", True), tmp_path)) == 4


def test_many_values_have_a_color_bar(tmp_path):
    rng = np.random.default_rng(0)
    curve = {"eval/bleu": Curve(np.arange(5), rng.random(5))}
    runs = tuple(
        RunRecord(str(i), Path(str(i)), {"rate": float(10 ** rng.uniform(-5, -2))}, curve, True) for i in range(30)
    )
    assert len(figures.draw(Comparison(runs, ("rate",), "eval/bleu", False), tmp_path)) == 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 2, 3], False), ([64, 128, 256], True), ([1e-4, 1e-3, 5e-1], True), ([0, 1, 1000], False), ([1, 1000], False)],
)
def test_log_scale_follows_the_spacing_of_values(values, expected):
    assert figures._is_log_scaled(values) == expected
