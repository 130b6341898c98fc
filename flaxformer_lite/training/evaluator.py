"""Evaluation during training."""

from __future__ import annotations

import logging
import time
from typing import Any

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.dataset import TrainingData
from flaxformer_lite.inference.evaluate import TeacherForcedMetrics, decode_examples, mean_over_tasks
from flaxformer_lite.inference.predict import Predictor
from flaxformer_lite.monitoring.metric_writer import MetricWriter
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.system.console import format_duration

logger = logging.getLogger(__name__)


class Evaluator:
    """Computes the loss and the metrics of the validation split, writes them with some samples, and draws the plots."""

    def __init__(self, config: Config, data: TrainingData, layout: MeshLayout, writer: MetricWriter):
        self._config = config
        self._writer = writer
        self._predictor = Predictor(config, (data.source_vocabulary, data.target_vocabulary), {}, 0, layout)
        self._forced = TeacherForcedMetrics(self._predictor.module_of(config.decode), config.train, layout)
        self._validation = {
            name: each._replace(examples=each.examples.sample(config.eval.max_examples))
            for name, each in data.validation.items()
        }

    def __call__(self, step: int, params: Any) -> float:
        """Evaluates parameters; returns the value of ``eval.best_metric``."""
        start = time.monotonic()
        self._predictor.params, self._predictor.step = params, step
        metrics = mean_over_tasks({name: self._evaluate(name, step) for name in self._validation})
        self._writer.write(step, {f"eval/{name}": value for name, value in metrics.items()})
        self._writer.draw_plots()
        logger.info(f"evaluation at step {step:,} ({format_duration(time.monotonic() - start)}): "
            + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if "/" not in name))  # fmt: skip
        return metrics[self._config.eval.best_metric]

    def _evaluate(self, name: str, step: int) -> dict[str, float]:
        """The metrics of the validation split of one task; writes some of its decoded examples."""
        dataset, examples, is_supervised = self._validation[name]
        metrics = self._forced(self._predictor.params, dataset)
        if not is_supervised:
            return metrics
        decoded = decode_examples(self._predictor, examples, self._config.decode)
        rows = list(zip(examples.sources, examples.references, decoded.hypotheses, strict=True))
        num_samples = self._config.eval.num_samples
        samples = rows[:: max(len(rows) // max(num_samples, 1), 1)][:num_samples]
        self._writer.write_samples(step, [(source, refs[0], hypothesis) for source, refs, hypothesis in samples])
        return metrics | decoded.metrics
