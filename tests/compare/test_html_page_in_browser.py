"""The page in headless Chromium: content, interaction and legibility."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from flaxformer_lite.compare import html_page
from flaxformer_lite.compare.comparison import Comparison, Curve, RunRecord
from tests.compare.fake_sweep import sweep

pytestmark = pytest.mark.slow

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
_FILLED = "return JSON.stringify([...document.querySelectorAll('#chart canvas')].map((c) => c.toDataURL().length))"

# The texts that can be seen, each with the rectangle that its scrolling ancestors leave of it, and its contrast.
_TEXTS = """
const clipped = (node, box) => {
  for (let host = node; host; host = host.parentElement) {
    if (getComputedStyle(host).overflowX === "visible" || host === document.documentElement) continue;
    const frame = host.getBoundingClientRect();
    box = { left: Math.max(box.left, frame.left), right: Math.min(box.right, frame.right),
            top: Math.max(box.top, frame.top), bottom: Math.min(box.bottom, frame.bottom) };
  }
  return box;
};
const light = (color) => {
  const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (node) => {
  for (let host = node; host; host = host.parentElement) {
    const color = getComputedStyle(host).backgroundColor;
    if (!color.endsWith(", 0)")) return color;
  }
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const texts = [];
while (walker.nextNode()) {
  const host = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || host.closest("script, noscript, select, [hidden], title")) continue;
  const range = document.createRange();
  range.selectNodeContents(walker.currentNode);
  const color = host.namespaceURI.endsWith("svg") ? getComputedStyle(host).fill : getComputedStyle(host).color;
  const [a, b] = [light(color), light(behind(host))].sort((x, y) => y - x);
  for (const whole of range.getClientRects()) {
    const box = clipped(host, whole);
    if (box.right - box.left < 1 || box.bottom - box.top < 1) continue;
    texts.push({ text: walker.currentNode.data, contrast: (a + 0.05) / (b + 0.05),
                 box: [box.left, box.top, box.right, box.bottom],
                 cut: Boolean(!host.closest(".table, #legend") && box.right - box.left < whole.width - 1) });
  }
}
return texts;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[int, Path]:
    """Pages by their number of runs."""
    folder = tmp_path_factory.mktemp("pages")
    sizes = {1: (1, 300, 1), 12: (12, 40, 2), 100: (100, 1000, 4)}
    for count, size in sizes.items():
        (folder / f"{count}.html").write_text(html_page.render(sweep(*size)), "utf-8")
    return {count: folder / f"{count}.html" for count in sizes}


def _open(browser: webdriver.Chrome, path: Path, width: int = 1280, theme: str = "light", height: int = 1000) -> None:
    _resize(browser, width, height)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    browser.get(path.as_uri())
    _settle(browser)
    assert _script(browser, "return document.documentElement.dataset.ready"), browser.get_log("browser")


def _resize(browser: webdriver.Chrome, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def _settle(browser: webdriver.Chrome) -> None:
    """Waits until the page is loaded and redrawn."""
    browser.execute_async_script(
        "const done = arguments[0]; const wait = () => document.documentElement.dataset.ready"
        " || !document.getElementById('failure').hidden"
        " ? requestAnimationFrame(() => requestAnimationFrame(done)) : setTimeout(wait, 20); wait();"
    )


def _script(browser: webdriver.Chrome, code: str, *values: Any) -> Any:
    return browser.execute_script(code, *values)


def _set(browser: webdriver.Chrome, name: str, value: str) -> None:
    """Sets an input as a user does, and waits for the redraw."""
    _script(
        browser,
        "const input = document.getElementById(arguments[0]); if (input.type === 'checkbox') input.click();"
        "else { input.value = arguments[1]; input.dispatchEvent(new Event('input', {bubbles: true}));"
        "input.dispatchEvent(new Event('change', {bubbles: true})); }",
        name,
        value,
    )
    _settle(browser)


def _texts_of(browser: webdriver.Chrome, selector: str) -> list[str]:
    code = "return [...document.querySelectorAll(arguments[0])].map((x) => x.textContent)"
    return _script(browser, code, selector)


def _assert_no_errors(browser: webdriver.Chrome) -> None:
    assert browser.get_log("browser") == []


def _run(name: str, values: list[float], **settings: Any) -> RunRecord:
    steps = 10 * np.arange(1, len(values) + 1)
    return RunRecord(name, Path("runs") / name, settings, {"eval/wer": Curve(steps, np.array(values))}, done=True)


def _write(path: Path, runs: list[RunRecord], *keys: str) -> Path:
    path.write_text(html_page.render(Comparison(tuple(runs), keys, "eval/wer", lower_is_better=True)), "utf-8")
    return path


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("count", [1, 12, 100])
def test_texts_are_legible(count, width, theme, browser, pages):
    _open(browser, pages[count], width, theme)
    assert _script(browser, "return document.documentElement.dataset.theme") == theme
    assert _script(browser, "return document.documentElement.scrollWidth") <= width
    texts = _script(browser, _TEXTS)
    assert len(texts) > 25
    assert [text for text in texts if text["contrast"] < 4.5] == []
    assert [text for text in texts if text["cut"] or text["box"][0] < 0 or text["box"][2] > width] == []
    boxes = np.array([text["box"] for text in texts])
    shared = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    overlaps = np.argwhere(np.triu((shared > 2).all(-1), 1))
    assert [(texts[i]["text"], texts[j]["text"]) for i, j in overlaps] == []
    _assert_no_errors(browser)


def test_a_hundred_runs_open_in_two_seconds(browser, pages):
    times = []
    for _ in range(3):
        _open(browser, pages[100])
        times.append(int(_script(browser, "return document.documentElement.dataset.ready")))
    print("milliseconds from the start to the whole page:", times)
    assert min(times) < 2000
    assert _script(browser, "return performance.getEntriesByType('resource').length") == 0
    _assert_no_errors(browser)


def test_pointer_shows_the_values_of_a_curve(browser, tmp_path):
    _open(browser, _write(tmp_path / "x.html", [_run("flat", [7.25, 7.25, 7.25])]))
    chart = browser.find_element(By.ID, "chart")
    ActionChains(browser).move_to_element_with_offset(chart, 20, -12).perform()
    tip = chart.find_element(By.CSS_SELECTOR, ".tip")
    assert tip.text.split("\n") == ["flat", "step", "20", "eval/wer", "7.25"]
    assert "faded" in chart.get_attribute("class")
    ActionChains(browser).move_to_element(browser.find_element(By.ID, "filter")).perform()
    assert not tip.is_displayed()
    _assert_no_errors(browser)


def test_arrow_keys_move_along_and_between_curves(browser, tmp_path):
    runs = [_run("best", [3.0, 1.0]), _run("second", [4.0, 2.0])]
    _open(browser, _write(tmp_path / "x.html", runs))
    shown = []
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ARROW_DOWN, Keys.ARROW_DOWN):
        browser.find_element(By.ID, "chart").send_keys(key)
        shown.append([*_texts_of(browser, "#chart .tip b"), *_texts_of(browser, "#chart .tip dd")])
    assert shown == [["best", "20", "1"], ["best", "10", "3"], ["second", "10", "4"], ["best", "10", "3"]]
    browser.find_element(By.ID, "chart").send_keys(Keys.ESCAPE)
    assert not browser.find_element(By.CSS_SELECTOR, "#chart .tip").is_displayed()


def test_legend_hides_runs(browser, pages):
    _open(browser, pages[12])
    before, dots = _script(browser, _FILLED), len(_texts_of(browser, "#panels circle"))
    browser.find_element(By.CSS_SELECTOR, "#legend input").click()
    _settle(browser)
    assert _texts_of(browser, "#legend-count") == ["11 of 12 runs"]
    assert _script(browser, _FILLED) != before
    assert len(_texts_of(browser, "#panels circle")) == dots - 2  # one in each panel
    assert len(_texts_of(browser, "#table tr.hidden-run")) == 1
    browser.find_element(By.ID, "show-none").click()
    _settle(browser)
    assert _texts_of(browser, "#chart .empty") == ["All runs that have this metric are hidden or filtered away."]
    browser.find_element(By.ID, "show-all").click()
    _settle(browser)
    assert _texts_of(browser, "#legend-count") == ["12 runs"]


def test_axes_smoothing_and_metrics(browser, pages):
    _open(browser, pages[12])
    seen = {_script(browser, _FILLED)}
    ticks = {tuple(_texts_of(browser, "#chart .tick"))}
    for name, value in (
        ("log-x", ""),
        ("log-y", ""),
        ("smoothing", "0.9"),
        ("crop", ""),
        ("metric", "train/data_wait"),
    ):
        _set(browser, name, value)
        seen.add(_script(browser, _FILLED))
        ticks.add(tuple(_texts_of(browser, "#chart .tick")))
    assert len(seen) == 6
    assert len(ticks) >= 5
    assert _texts_of(browser, "#value option") == ["final"]  # a wait for data has no good end
    _set(browser, "color-by", "optim.optimizer")
    assert _texts_of(browser, "#color-key") == ["optim.optimizeradammuon"]
    _assert_no_errors(browser)


def test_dragging_zooms_and_a_double_click_returns(browser, pages):
    _open(browser, pages[12])
    ticks = _texts_of(browser, "#chart .tick")
    chart = browser.find_element(By.ID, "chart")
    ActionChains(browser).move_to_element(chart).click_and_hold().move_by_offset(120, 90).release().perform()
    _settle(browser)
    assert _texts_of(browser, "#chart .tick") != ticks
    browser.find_element(By.ID, "whole").click()
    _settle(browser)
    assert _texts_of(browser, "#chart .tick") == ticks


def test_the_table_sorts_filters_and_groups(browser, pages):
    _open(browser, pages[12])
    best = [float(text) for text in _texts_of(browser, "#table td:nth-child(5)")]
    assert best == sorted(best)
    browser.find_elements(By.CSS_SELECTOR, "#table thead button")[4].click()
    assert [float(text) for text in _texts_of(browser, "#table td:nth-child(5)")] == best[::-1]
    _set(browser, "filter", "optimizer=muon SEED=1")
    assert len(_texts_of(browser, "#table tbody tr")) == 3
    assert _texts_of(browser, "#legend-count") == ["3 runs"]
    _set(browser, "filter", "no such run")
    assert _texts_of(browser, "#table tbody") == ["No run matches the filter."]
    _set(browser, "filter", "")
    browser.find_element(By.CSS_SELECTOR, "input[value=groups]").click()
    _settle(browser)
    assert len(_texts_of(browser, "#table tbody tr")) == 6
    expected = sweep(12, 40, 2).groups[0].best
    mean, deviation = _texts_of(browser, "#table tbody tr:first-child .number")[:2]
    assert (float(mean), float(deviation[2:])) == pytest.approx((expected.mean, expected.std), rel=5e-3)
    _assert_no_errors(browser)


def test_theme_button(browser, pages):
    _open(browser, pages[1], theme="dark")
    browser.find_element(By.ID, "theme").click()
    _settle(browser)
    assert _script(browser, "return getComputedStyle(document.querySelector('.chart')).backgroundColor") == (
        "rgb(255, 255, 255)"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_unusual_runs(theme, browser, tmp_path):
    markup = "<img src=x onerror=document.title='hacked'></script><script>document.title='hacked'</script>"
    runs = [
        _run(markup, [5.0, 4.0], rate=0.0, kind=markup),
        _run("diverged", [6.0, float("nan"), float("inf")], rate=1e-3, kind="x" * 90),
        _run("nothing finite", [float("nan")] * 3, rate=1e-2, kind=""),
        _run("one point", [3.0], rate=1e-1, kind=(1, "a")),
        RunRecord("no points", Path("runs/none"), {"rate": 1.0}, {}, done=False),
    ]
    path = _write(tmp_path / "x.html", runs, "rate", "kind")
    for width in (1280, 390):
        _open(browser, path, width, theme)
        assert _script(browser, "return document.documentElement.scrollWidth") <= width
        assert browser.title == "Comparison of 5 runs"
        assert markup in _texts_of(browser, "#legend .word")
        assert _texts_of(browser, "#legend .figure") == ["3.000", "4.000", "6.000", "not finite", "–"]
        for name in ("log-x", "log-y"):
            _set(browser, name, "")
        assert browser.find_element(By.CSS_SELECTOR, "#chart .empty").is_displayed() is False
    _assert_no_errors(browser)


def test_runs_without_points(browser, tmp_path):
    bare = [RunRecord(str(i), Path(str(i)), {"seed": i}, {}, done=False) for i in range(2)]
    _open(browser, _write(tmp_path / "x.html", bare, "seed"))
    assert _texts_of(browser, "#chart .empty") == ["No run has points of this metric."]
    for name in ("log-x", "log-y", "smoothing"):
        _set(browser, name, "0.5")
    _assert_no_errors(browser)
