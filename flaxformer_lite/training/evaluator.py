"""Evaluation in the middle of training."""

from __future__ import annotations

import logging
import time
from typing import Any

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.pipeline import TrainingData
from flaxformer_lite.inference.evaluate import TeacherForced, decode_examples
from flaxformer_lite.inference.predict import Predictor
from flaxformer_lite.metrics.compute import make_metrics
from flaxformer_lite.monitoring.metric_writer import Report
from flaxformer_lite.sharding.layout import MeshLayout
from flaxformer_lite.system.console import format_duration

logger = logging.getLogger(__name__)


class Evaluator:
    """Measures what a run has learned so far, records it, shows samples, draws the curves."""

    def __init__(self, config: Config, data: TrainingData, layout: MeshLayout, report: Report):
        make_metrics(config.eval.metrics, config.eval.metric_options)  # so that errors show up before training
        self._config = config
        self._report = report
        self._predictor = Predictor(config, (data.source_vocabulary, data.target_vocabulary), {}, 0, layout)
        self._forced = TeacherForced(self._predictor.model_of(config.decode), config.train, layout)
        self._validation = data.validation
        self._examples = data.validation_examples.sample(config.eval.max_examples)

    def __call__(self, step: int, params: Any) -> float:
        """Returns the metric by which checkpoints are compared."""
        start = time.monotonic()
        self._predictor.params, self._predictor.step = params, step
        decoded = decode_examples(self._predictor, self._examples, self._config.decode)
        found = self._forced(params, self._validation) | decoded.metrics
        self._report.write(step, {f"eval/{name}": value for name, value in found.items()})
        rows = zip(self._examples.sources, self._examples.references, decoded.hypotheses, strict=True)
        shown = list(rows)[:: max(len(self._examples) // max(self._config.eval.num_samples, 1), 1)]
        self._report.samples(step, [(s, r[0], h) for s, r, h in shown[: self._config.eval.num_samples]])
        self._report.curves()
        logger.info(f"evaluation at step {step:,} ({format_duration(time.monotonic() - start)}): "
            + "  ".join(f"{name} {value:.4g}" for name, value in found.items()))  # fmt: skip
        return found[self._config.eval.best_metric]
