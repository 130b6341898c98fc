"""Fake sweep with plausible curves."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flaxformer_lite.compare.comparison import Comparison, Curve, RunRecord

_COSTS = ("train/gradient_norm", "train/tokens_per_second", "train/tokens_per_second_per_device", "train/data_wait")


def sweep(runs: int, points: int, seeds: int = 4) -> Comparison:
    """A sweep over learning rate, width and optimizer, with some seeds each; the last run is not done."""
    records = tuple(_run(i, settings, points) for i, settings in zip(range(runs), _settings(seeds), strict=False))
    keys = ("optim.learning_rate", "model.encoder.width", "optim.optimizer", "seed")
    differing = tuple(key for key in keys if len({run.settings[key] for run in records}) > 1)
    ordered = sorted(records, key=lambda run: run.curves["eval/wer"].values.min())
    return Comparison(tuple(ordered), differing, "eval/wer", lower_is_better=True)


def _settings(seeds: int) -> Iterator[dict[str, Any]]:
    keys = ("model.encoder.width", "optim.learning_rate", "optim.optimizer", "seed")
    points = itertools.product((64, 128, 256), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2), ("adam", "muon"), range(seeds))
    return (dict(zip(keys, point, strict=True)) for point in points)


def _run(index: int, settings: Mapping[str, Any], points: int) -> RunRecord:
    rng = np.random.default_rng(index)
    steps = 10 * np.arange(1, points + 1)
    floor = 0.4 + 0.25 * abs(np.log10(settings["optim.learning_rate"] / 1e-3)) + 16 / settings["model.encoder.width"]
    loss = floor + 4 * np.exp(-np.arange(points) / points * 9) + 0.12 * rng.standard_normal(points)
    wer = 12 + 30 * floor + 60 * np.exp(-np.arange(points) / points * 6) + rng.standard_normal(points)
    curves = {
        "train/loss": Curve(steps, loss),
        "train/token_accuracy": Curve(steps, 100 * np.exp(-loss)),
        "train/learning_rate": Curve(steps, settings["optim.learning_rate"] / np.sqrt(1 + np.arange(points))),
        "eval/loss": Curve(steps, loss + 0.1 + 0.02 * rng.standard_normal(points)),
        "eval/token_accuracy": Curve(steps, 90 * np.exp(-loss)),
        "eval/wer": Curve(steps, wer),
        "eval/per": Curve(steps, wer / 3.9 + rng.standard_normal(points)),
    } | {name: Curve(steps, rng.lognormal(3, 0.5, points)) for name in _COSTS}
    words = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items())
    return RunRecord(f"{words}-{index:04x}", Path("runs") / str(index), settings, curves, done=index != 11)
