"""The page of a comparison: one HTML file that opens from disk, with no network and nothing beside it."""

from __future__ import annotations

import base64
import html
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from flaxformer_lite.compare.runs import Comparison, Curve, Run, best, final, known_direction

_SCRIPTS = ("data.js", "scales.js", "colors.js", "axes.js", "curves.js", "panels.js", "table.js", "main.js")
_MOST_BYTES = 4_500_000  # of all points as text; the rest of a page of 100 runs is under a tenth of that
_FEWEST_POINTS = 32  # of a curve; it is thinned no further


def render(comparison: Comparison) -> str:
    """The page's text."""
    metas, points = _data(comparison)
    count = len(comparison.runs)
    return Template(_source("page.html")).substitute(
        title=html.escape("One run" if count == 1 else f"Comparison of {count:,} runs"),
        style=_source("page.css"),
        script="\n".join(_source(name) for name in _SCRIPTS),
        data=_json(metas),
        points=points,
    )


def _source(name: str) -> str:
    return (resources.files("flaxformer_lite.compare") / "web" / name).read_text("utf-8")


def _json(values: Mapping[str, Any]) -> str:
    """JSON that HTML reads as nothing else, whatever names are made of."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _data(comparison: Comparison) -> tuple[dict[str, Any], str]:
    """What the page shows: names and figures, and the points of all curves, thinned out until they fit."""
    names = [comparison.metric, *(name for name in comparison.metrics if name != comparison.metric)]
    curves = [
        (i, j, run.curves[name])
        for i, run in enumerate(comparison.runs)
        for j, name in enumerate(names)
        if name in run.curves
    ]
    packed, thinned = _pack_within([curve for _, _, curve in curves])
    lower = [comparison.lower_is_better, *(known_direction(name) for name in names[1:])]
    metas = {
        "metric": comparison.metric,
        "metrics": [{"name": name, "lower": low} for name, low in zip(names, lower, strict=True)],
        "keys": list(comparison.keys),
        "runs": [_run(run, comparison.keys) for run in comparison.runs],
        "curves": [
            [i, j, *places, *_figures(comparison.runs[i], names[j], lower[j])]
            for (i, j, _), places in zip(curves, packed.places, strict=True)
        ],
        "steps": packed.steps,
        "values": packed.values,
        "thinned": thinned,
    }
    return metas, packed.text


def _run(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    return {
        "name": run.name,
        "folder": str(run.folder),
        "state": "done" if run.done else "not done",
        "step": run.step,
        "settings": {key: _plain(run.settings[key]) for key in keys if key in run.settings},
    }


def _plain(value: Any) -> Any:
    """What JSON has a word for."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int | None) else str(value)


def _figures(run: Run, metric: str, lower: bool | None) -> tuple[float | None, float | None, int]:
    """The final value, the best one and its step; None for what is not finite, or has no best."""
    last = final(run, metric)
    top = last if lower is None else best(run, metric, lower)
    return _finite(last.value), None if lower is None else _finite(top.value), top.step


def _finite(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None


class _Packed(NamedTuple):
    """Points as text, and where each curve finds its own.

    Attributes:
      text: base64 of what ``_planes`` makes of all steps and values, deflated.
      steps, values: how many numbers each array has; arrays that several curves share are there once.
      places: for each curve the number of its array of steps, and of values.
    """

    text: str
    steps: list[int]
    values: list[int]
    places: list[tuple[int, int]]


def _pack_within(curves: Sequence[Curve]) -> tuple[_Packed, int]:
    """Packs curves, with as many points as there is room for; the second result is that number, 0 if all have room."""
    packed, most = _pack(curves), max((len(curve.steps) for curve in curves), default=0)
    thinned = 0
    while len(packed.text) > _MOST_BYTES and most > _FEWEST_POINTS:
        most = thinned = max(_FEWEST_POINTS, int(most * min(0.9, _MOST_BYTES / len(packed.text))))
        packed = _pack([thin(curve, most) for curve in curves])
    return packed, thinned


def _pack(curves: Sequence[Curve]) -> _Packed:
    steps: dict[bytes, int] = {}
    values: dict[bytes, int] = {}
    places = []
    for curve in curves:
        differences = np.diff(curve.steps, prepend=0).astype(">i4")
        rounded = _rounded(curve.values)
        places.append(
            (
                steps.setdefault(differences.tobytes(), len(steps)),
                values.setdefault(rounded.tobytes(), len(values)),
            )
        )
    planes = _planes(b"".join(steps)) + _planes(b"".join(values))[:3]
    text = base64.b64encode(zlib.compress(b"".join(plane.tobytes() for plane in planes), 6)).decode()
    return _Packed(text, [len(key) // 4 for key in steps], [len(key) // 4 for key in values], places)


def _rounded(values: Float[np.ndarray, "n"]) -> np.ndarray:
    """Big-endian float32 whose lowest byte is 0: numbers with an error of at most 1 in 65,000."""
    with np.errstate(over="ignore"):  # what is too large for float32 is infinite
        single = values.astype(np.float32)
    bits = single.view(np.uint32).astype(np.uint64)
    rounded = np.where(np.abs(single) < 3e38, bits + 0x80, bits) & 0xFFFFFF00
    return np.where(np.isnan(single), 0x7FC00000, rounded).astype(">u4")


def _planes(numbers: bytes) -> list[UInt8[np.ndarray, "n"]]:
    """All first bytes of numbers of four, then all second ones and so on: alike ones together, which deflates well."""
    return list(np.frombuffer(numbers, np.uint8).reshape(-1, 4).T)


def thin(curve: Curve, most: int) -> Curve:
    """The first and the last point of a curve, and the lowest and the highest of each stretch between: about ``most``.

    Points stay as they are, and a spike stays a spike; a curve with no more points than that is as before.
    """
    count = len(curve.steps)
    if count <= most:
        return curve
    length = -(-count // max(1, most // 2 - 1))
    padded = np.full(-(-count // length) * length, np.nan)
    padded[:count] = np.where(np.isfinite(curve.values), curve.values, np.nan)
    stretches = padded.reshape(-1, length)
    starts = np.arange(len(stretches)) * length
    low = starts + np.where(np.isnan(stretches), np.inf, stretches).argmin(1)
    high = starts + np.where(np.isnan(stretches), -np.inf, stretches).argmax(1)
    kept: Int[np.ndarray, "k"] = np.unique(np.concatenate([[0, count - 1], low, high]))
    return Curve(curve.steps[kept], curve.values[kept])
