import base64
import html.parser
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from flaxformer_lite.compare import figures, html_page
from flaxformer_lite.compare.comparison import Comparison, Curve, RunRecord
from tests.compare.fake_sweep import sweep

_VOID = ("meta", "input", "link", "img", "br", "hr", "wbr")


class _Reader(html.parser.HTMLParser):
    """Strict parser: every element must be closed, in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, str] = {}
        self.scripts = 0
        self._id = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        self.scripts += tag == "script"
        self._id = dict(attrs).get("id") or tag
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts[self._id] = self.texts.get(self._id, "") + data


def _data(text: str) -> dict:
    return json.loads(_Reader(text).texts["data"])


def _curves(text: str) -> dict[tuple[str, str], Curve]:
    """The curves of a page by run and metric, decoded as in data.js."""
    data = _data(text)
    packed = zlib.decompress(base64.b64decode(_Reader(text).texts["points"]))
    end = 4 * sum(data["steps"])
    planes = np.frombuffer(packed[:end], np.uint8).reshape(4, -1)
    differences = np.ascontiguousarray(planes.T).view(">i4").ravel()
    steps = [np.cumsum(part) for part in np.split(differences, np.cumsum(data["steps"])[:-1])]
    planes = np.frombuffer(packed[end:], np.uint8).reshape(3, -1)
    numbers = np.ascontiguousarray(np.concatenate([planes, np.zeros_like(planes[:1])]).T).view(">f4").ravel()
    values = np.split(numbers.astype(float), np.cumsum(data["values"])[:-1])
    names = [metric["name"] for metric in data["metrics"]]
    return {
        (data["runs"][run]["name"], names[metric]): Curve(steps[s], values[v])
        for run, metric, s, v, *_ in data["curves"]
    }


def _run(name: str, values: list[float], metric: str = "eval/wer", **settings) -> RunRecord:
    steps = 3 * np.arange(1, len(values) + 1)
    return RunRecord(name, Path("runs") / "x", settings, {metric: Curve(steps, np.array(values))}, done=True)


def test_page_is_self_contained():
    text = html_page.render(sweep(3, 5))
    reader = _Reader(text)
    assert "://" not in text
    assert not [name for name, _ in reader.attributes if name in ("src", "href", "srcset", "data")]
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|\bimport\b *[({\"']", text)
    assert ("content", "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'") in reader.attributes


def test_curves_are_decoded_as_encoded():
    comparison = sweep(7, 23)
    curves = _curves(html_page.render(comparison))
    assert len(curves) == sum(len(run.curves) for run in comparison.runs)
    for run in comparison.runs:
        for metric, (steps, values) in run.curves.items():
            np.testing.assert_array_equal(curves[run.name, metric].steps, steps)
            np.testing.assert_allclose(curves[run.name, metric].values, values, rtol=1 / 65000)


def test_values_that_are_not_finite_are_kept():
    values = [1.0, np.nan, np.inf, -np.inf, 1e300, -1e-300, 0.0, 3.4e38, 2.5]
    text = html_page.render(Comparison((_run("a", values), _run("b", [np.nan])), (), "eval/wer", True))
    expected = [1.0, np.nan, np.inf, -np.inf, np.inf, -0.0, 0.0, 3.4e38, 2.5]
    np.testing.assert_allclose(_curves(text)["a", "eval/wer"].values, expected, rtol=1 / 65000)
    assert "NaN" not in _Reader(text).texts["data"]
    assert [curve[4:] for curve in _data(text)["curves"]] == [[2.5, None, 12], [None, None, 3]]


def test_final_and_best_are_exact_and_metrics_have_directions():
    first, second = _run("a", [3.1234567, 9.0, 4.0]), _run("b", [1.0, 2.0], "train/learning_rate")
    data = _data(html_page.render(Comparison((first, second), (), "eval/wer", True)))
    assert data["metrics"] == [{"name": "eval/wer", "lower": True}, {"name": "train/learning_rate", "lower": None}]
    assert data["curves"] == [[0, 0, 0, 0, 4.0, 3.123457, 3], [1, 1, 1, 1, 2.0, None, 6]]


@pytest.mark.parametrize("text_", ["</script><script>alert(1)</script>", "<!--<script>", "\"&amp;'\u2028{{$title}}"])
def test_names_are_escaped(text_):
    runs = tuple(_run(f"{text_}{i}", [1.0], **{text_: text_, "seed": i}) for i in range(2))
    text = html_page.render(Comparison(runs, (text_, "seed"), "eval/wer", True))
    assert _Reader(text).scripts == 3  # the data, the points and the program
    data = _data(text)
    assert [run["name"] for run in data["runs"]] == [f"{text_}0", f"{text_}1"]
    assert data["runs"][1]["settings"] == {text_: text_, "seed": 1}


def test_settings_of_all_types():
    settings = {"a": (1, "x", ()), "b": None, "c": True, "d": float("inf"), "e": 1e-9, "f": Path("x")}
    data = _data(html_page.render(Comparison((_run("run", [1.0], **settings),), tuple("abcdefg"), "eval/wer", True)))
    assert data["runs"][0]["settings"] == {"a": [1, "x", []], "b": None, "c": True, "d": "inf", "e": 1e-9, "f": "x"}


def test_equal_arrays_are_stored_once():
    same = list(np.random.default_rng(0).standard_normal(50))
    data = _data(html_page.render(Comparison(tuple(_run(str(i), same) for i in range(9)), (), "eval/wer", True)))
    assert data["steps"] == data["values"] == [50]


def test_runs_without_curves():
    bare = RunRecord("bare", Path("bare"), {"seed": 0}, {}, done=False)
    data = _data(html_page.render(Comparison((bare,), (), "eval/wer", True)))
    assert data["metrics"] == [{"name": "eval/wer", "lower": True}]
    assert (data["curves"], data["runs"][0]["state"], data["runs"][0]["step"]) == ([], "not done", 0)


def test_size_of_a_hundred_runs():
    comparison = sweep(100, 1000)
    text = html_page.render(comparison)
    assert len(text.encode()) < 5_000_000
    data = _data(text)
    assert data["thinned"] == 0
    assert len(data["curves"]) == 1100


def test_large_curves_are_thinned(monkeypatch):
    monkeypatch.setattr(html_page, "_MAX_BYTES", 60_000)
    comparison = sweep(5, 1500)
    text = html_page.render(comparison)
    max_points = _data(text)["thinned"]
    assert 32 < max_points < 1500
    assert len(_Reader(text).texts["points"]) <= 60_000
    counts = [len(curve.steps) for curve in _curves(text).values()]
    assert 0.5 * max_points < min(counts) <= max(counts) <= max_points + 2
    data = _data(text)
    place = [metric["name"] for metric in data["metrics"]].index("eval/wer")
    best = {data["runs"][run]["name"]: figures[1] for run, metric, _, _, *figures in data["curves"] if metric == place}
    assert best == {run.name: float(f"{run.curves['eval/wer'].values.min():.7g}") for run in comparison.runs}


def test_thinning_keeps_ends_and_spikes():
    values = np.random.default_rng(0).standard_normal(1001)
    values[[417, 702]] = 80, -90
    values[100:300] = np.nan
    curve = Curve(np.arange(1, 1002), values)
    thinned = html_page.thin(curve, 100)
    assert len(thinned.steps) <= 102
    assert (thinned.steps[0], thinned.steps[-1]) == (1, 1001)
    assert {418, 703} <= set(thinned.steps.tolist())
    np.testing.assert_array_equal(thinned.values, values[thinned.steps - 1])
    assert (np.diff(thinned.steps) > 0).all()
    assert html_page.thin(curve, 1001) is curve


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colors_contrast_with_the_background(theme):
    surface = {"light": "#ffffff", "dark": "#1b1e23"}[theme]
    assert f"--surface: {surface}" in html_page._source("page.css")
    colors = [re.findall(r"#\w{6}", line) for line in re.findall(rf"{theme}: \[.*\]", html_page._source("colors.js"))]
    assert [len(kind) for kind in colors] == [8, 5]
    for color in (*colors[0], *colors[1]):
        dark, light = sorted((_luminance(color), _luminance(surface)))
        assert (light + 0.05) / (dark + 0.05) >= 3, color  # required for graphics by WCAG 2.1, 1.4.11
    if theme == "light":
        assert colors == [list(figures._PALETTE), list(figures._RAMP)]


def _luminance(color: str) -> float:
    """Relative luminance as defined by WCAG."""
    parts = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
