"""Evaluation: loss and token accuracy with teacher forcing, and the metrics of ``config.eval`` by decoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from flaxformer_lite.config.dataclasses import DataConfig, DecodeConfig, TrainConfig
from flaxformer_lite.config.mixture import components
from flaxformer_lite.data import tasks
from flaxformer_lite.data.buckets import batch_rows
from flaxformer_lite.data.dataset import Dataset, Vocabularies, for_evaluation, make_dataset
from flaxformer_lite.data.pipeline import eval_batches
from flaxformer_lite.data.table_columns import concatenate
from flaxformer_lite.data.tasks import Examples, Split
from flaxformer_lite.errors import require
from flaxformer_lite.inference.predict import Predictor
from flaxformer_lite.metrics.compute import compute_metrics
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.train_step.objective import Sums, label_objective
from flaxformer_lite.train_step.step import evaluation_step

_MAX_GROUPS = 200  # of eval.group_by: each metric of each group is a line of every report and a curve in TensorBoard


class TeacherForcedMetrics:
    """Loss and token accuracy of a model on data sets."""

    def __init__(self, module: nn.Module, config: TrainConfig, layout: MeshLayout):
        self._layout = layout
        self._config = config
        run = jax.jit(partial(evaluation_step, label_objective(module, config)))
        self._step = LoggedJit(run, "evaluation")

    def __call__(self, params: object, dataset: Dataset) -> dict[str, float]:
        """Returns ``loss`` in nats per target token, and ``token_accuracy`` in percent."""
        total = np.zeros(len(Sums._fields))
        for batch in eval_batches(dataset, self._rows_of):
            total += np.array(self._layout.fetch(self._step(params, self._layout.shard_replicated_batch(batch))))
        loss, correct, weight, _ = total
        return {"loss": float(loss / weight), "token_accuracy": float(100 * correct / weight)}

    def _rows_of(self, shape: tuple[int, int]) -> int:
        return self._layout.round_up_rows(batch_rows(self._config, shape))


class DecodedExamples(NamedTuple):
    """Hypotheses of some examples, with their metrics."""

    metrics: dict[str, float]
    hypotheses: list[str]


def decode_examples(predictor: Predictor, examples: Examples, decode: DecodeConfig) -> DecodedExamples:
    """Decodes sources and computes the metrics of ``config.eval``.

    Where the examples have the meta column ``group_by``, also those of each of its values, as ``bleu/VALUE``.
    """
    hypotheses = predictor.decode(examples.sources, decode)
    config = predictor.config.eval
    metrics = compute_metrics(config.metrics, config.metric_options, hypotheses, examples.references)
    for group, indices in (examples.groups(config.group_by) if config.group_by in examples.meta else {}).items():
        part = [hypotheses[i] for i in indices], [examples.references[i] for i in indices]
        of_group = compute_metrics(config.metrics, config.metric_options, *part)
        metrics |= {f"{name}/{group}": value for name, value in of_group.items()}
    return DecodedExamples(metrics, hypotheses)


def check_group_by(name: str, examples: Examples) -> None:
    """Raises ``InputError`` where ``eval.group_by`` names no meta column of examples, or one of too many values."""
    if not name:
        return
    subject = f"config.eval.group_by={name!r}"
    known = ", ".join(examples.meta) or "none"
    remedy = "name one of config.data.text.meta_columns"
    require(name in examples.meta, subject, f"the examples have no such column; their meta columns: {known}", remedy)
    count = len(examples.groups(name))
    reason = f"has {count:,} values among {len(examples):,} examples, each of which would have its own metrics"
    require(count <= _MAX_GROUPS, subject, reason, f"name a column of at most {_MAX_GROUPS} values")


class EvaluationResult(NamedTuple):
    """Metrics of a model, the examples that were decoded, and their hypotheses."""

    metrics: dict[str, float]
    examples: Examples
    hypotheses: list[str]


def evaluate_split(
    predictor: Predictor, split: Split, decode: DecodeConfig, max_examples: int = 0, files: Sequence[str] = ()
) -> EvaluationResult:
    """Computes all metrics of a trained model on one split of its data; without decoding where an objective made pairs.

    ``max_examples`` are spread evenly over the split (0: all); ``files`` replace it, as in ``config.data.text``.
    """
    config = predictor.config
    parts = {"": config.data} if files else {name: part.data for name, part in components(config.data).items()}
    results = {}
    for name, data in parts.items():
        own = _with_files(data, split, files) if files else data
        examples = tasks.load(own, split, config.seed).sample(max_examples)
        if not files:  # which may lack the column
            check_group_by(config.eval.group_by, examples)
        results[name] = _evaluate_examples(predictor, examples, own, decode)
    metrics = mean_over_tasks({name: result.metrics for name, result in results.items()})
    examples = concatenate([result.examples for result in results.values()], meta_names=())
    return EvaluationResult(metrics, examples, [text for result in results.values() for text in result.hypotheses])


def mean_over_tasks(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Returns the metrics of one task, named "", as they are; those of several as ``task/metric``, and their means."""
    if "" in metrics:
        return dict(metrics[""])
    values: dict[str, list[float]] = {}
    for of_task in metrics.values():
        for name, value in of_task.items():
            values.setdefault(name, []).append(value)
    means = {name: sum(each) / len(each) for name, each in values.items() if "/" not in name}
    return means | {f"{task}/{name}": value for task, each in metrics.items() for name, value in each.items()}


def _evaluate_examples(
    predictor: Predictor, examples: Examples, data: DataConfig, decode: DecodeConfig
) -> EvaluationResult:
    dataset, _ = make_dataset(examples, Vocabularies(*predictor.vocabularies), for_evaluation(data))
    forced = TeacherForcedMetrics(predictor.module_of(decode), predictor.config.train, predictor.layout)
    metrics = forced(predictor.params, dataset)
    if data.objective != "supervised":
        return EvaluationResult(metrics, Examples([], []), [])
    decoded = decode_examples(predictor, examples, decode)
    return EvaluationResult(metrics | decoded.metrics, examples, decoded.hypotheses)


def _with_files(data: DataConfig, split: Split, files: Sequence[str]) -> DataConfig:
    return dataclasses.replace(data, task="text", text=dataclasses.replace(data.text, **{split: tuple(files)}))
