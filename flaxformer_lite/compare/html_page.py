"""Self-contained HTML page of a comparison, which opens from disk and loads nothing."""

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

from flaxformer_lite.compare.comparison import (
    Comparison,
    Curve,
    RunRecord,
    best_point,
    final_point,
    known_direction,
)

_SCRIPTS = ("data.js", "scales.js", "colors.js", "axes.js", "curves.js", "panels.js", "table.js", "main.js")
_MAX_BYTES = 4_500_000  # of all points as text; the rest of a page of 100 runs is less than a tenth of that
_MIN_POINTS = 32  # to which a curve may be thinned


def render(comparison: Comparison) -> str:
    """The text of the page."""
    metadata, points = _page_data(comparison)
    count = len(comparison.runs)
    return Template(_source("page.html")).substitute(
        title=html.escape("One run" if count == 1 else f"Comparison of {count:,} runs"),
        style=_source("page.css"),
        script="\n".join(_source(name) for name in _SCRIPTS),
        data=_json(metadata),
        points=points,
    )


def _source(name: str) -> str:
    return (resources.files("flaxformer_lite.compare") / "web" / name).read_text("utf-8")


def _json(values: Mapping[str, Any]) -> str:
    """JSON without characters that HTML would interpret."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _page_data(comparison: Comparison) -> tuple[dict[str, Any], str]:
    """The metadata of the page as JSON values, and the packed points of all curves, thinned until they fit."""
    names = [comparison.metric, *(name for name in comparison.metrics if name != comparison.metric)]
    curves = [
        (i, j, run.curves[name])
        for i, run in enumerate(comparison.runs)
        for j, name in enumerate(names)
        if name in run.curves
    ]
    packed, thinned = _pack_within([curve for _, _, curve in curves])
    lower = [comparison.lower_is_better, *(known_direction(name) for name in names[1:])]
    metadata = {
        "metric": comparison.metric,
        "metrics": [{"name": name, "lower": low} for name, low in zip(names, lower, strict=True)],
        "keys": list(comparison.keys),
        "runs": [_run(run, comparison.keys) for run in comparison.runs],
        "curves": [
            [i, j, *indices, *_final_and_best(comparison.runs[i], names[j], lower[j])]
            for (i, j, _), indices in zip(curves, packed.indices, strict=True)
        ],
        "steps": packed.steps,
        "values": packed.values,
        "thinned": thinned,
    }
    return metadata, packed.text


def _run(run: RunRecord, keys: Sequence[str]) -> dict[str, Any]:
    return {
        "name": run.name,
        "folder": str(run.path),
        "state": "done" if run.done else "not done",
        "step": run.step,
        "settings": {key: _to_json(run.settings[key]) for key in keys if key in run.settings},
    }


def _to_json(value: Any) -> Any:
    """A value that JSON can represent."""
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int | None) else str(value)


def _final_and_best(run: RunRecord, metric: str, lower: bool | None) -> tuple[float | None, float | None, int]:
    """The final value, the best one and its step; None for values that are not finite or have no direction."""
    final = final_point(run, metric)
    best = final if lower is None else best_point(run, metric, lower)
    return _finite(final.value), None if lower is None else _finite(best.value), best.step


def _finite(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None


class _PackedCurves(NamedTuple):
    """Points of all curves as text, and the index of each curve's points.

    Attributes:
      text: base64 of the deflated byte planes of all steps and values.
      steps: lengths of the arrays of steps; curves share equal arrays.
      values: lengths of the arrays of values.
      indices: for each curve the indices of its arrays of steps and of values.
    """

    text: str
    steps: list[int]
    values: list[int]
    indices: list[tuple[int, int]]


def _pack_within(curves: Sequence[Curve]) -> tuple[_PackedCurves, int]:
    """Packs curves within the size limit; also returns the number of points to which they were thinned, or 0."""
    packed, max_points = _pack(curves), max((len(curve.steps) for curve in curves), default=0)
    thinned = 0
    while len(packed.text) > _MAX_BYTES and max_points > _MIN_POINTS:
        max_points = thinned = max(_MIN_POINTS, int(max_points * min(0.9, _MAX_BYTES / len(packed.text))))
        packed = _pack([thin(curve, max_points) for curve in curves])
    return packed, thinned


def _pack(curves: Sequence[Curve]) -> _PackedCurves:
    steps: dict[bytes, int] = {}
    values: dict[bytes, int] = {}
    indices = []
    for curve in curves:
        differences = np.diff(curve.steps, prepend=0).astype(">i4").tobytes()
        rounded = _rounded(curve.values).tobytes()
        indices.append((steps.setdefault(differences, len(steps)), values.setdefault(rounded, len(values))))
    planes = _planes(b"".join(steps)) + _planes(b"".join(values))[:3]
    text = base64.b64encode(zlib.compress(b"".join(plane.tobytes() for plane in planes), 6)).decode()
    return _PackedCurves(text, [len(key) // 4 for key in steps], [len(key) // 4 for key in values], indices)


def _rounded(values: Float[np.ndarray, "n"]) -> np.ndarray:
    """Big-endian float32 with a zero lowest byte: a relative error of at most 1 in 65,000."""
    with np.errstate(over="ignore"):  # values above the range of float32 become infinite
        single = values.astype(np.float32)
    bits = single.view(np.uint32).astype(np.uint64)
    rounded = np.where(np.abs(single) < 3e38, bits + 0x80, bits) & 0xFFFFFF00
    return np.where(np.isnan(single), 0x7FC00000, rounded).astype(">u4")


def _planes(numbers: bytes) -> list[UInt8[np.ndarray, "n"]]:
    """Byte planes of 4-byte numbers: all first bytes, then all second ones and so on, which deflates well."""
    return list(np.frombuffer(numbers, np.uint8).reshape(-1, 4).T)


def thin(curve: Curve, max_points: int) -> Curve:
    """Thins a curve to about ``max_points``: its ends, and the minimum and maximum of each segment (spikes remain)."""
    count = len(curve.steps)
    if count <= max_points:
        return curve
    length = -(-count // max(1, max_points // 2 - 1))
    padded = np.full(-(-count // length) * length, np.nan)
    padded[:count] = np.where(np.isfinite(curve.values), curve.values, np.nan)
    segments = padded.reshape(-1, length)
    starts = np.arange(len(segments)) * length
    low = starts + np.where(np.isnan(segments), np.inf, segments).argmin(1)
    high = starts + np.where(np.isnan(segments), -np.inf, segments).argmax(1)
    kept: Int[np.ndarray, "k"] = np.unique(np.concatenate([[0, count - 1], low, high]))
    return Curve(curve.steps[kept], curve.values[kept])
