"""How good a model is: loss and token accuracy under teacher forcing, and the task's metrics by decoding."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from flaxformer_lite.config.dataclasses import DecodeConfig, TrainConfig
from flaxformer_lite.data import tasks
from flaxformer_lite.data.pipeline import Dataset, eval_batches, make_dataset
from flaxformer_lite.data.tasks import Examples
from flaxformer_lite.inference.predict import Predictor
from flaxformer_lite.metrics.compute import compute_metrics
from flaxformer_lite.sharding.mesh import MeshLayout
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.train_step.objective import Sums, label_objective
from flaxformer_lite.train_step.step import evaluation_step


class TeacherForced:
    """Loss and token accuracy of a model on data sets."""

    def __init__(self, model: nn.Module, config: TrainConfig, layout: MeshLayout):
        self._layout = layout
        self._rows = layout.round_up_rows(config.batch_size)
        run = jax.jit(partial(evaluation_step, label_objective(model, config)))
        self._step = LoggedJit(run, "evaluation")

    def __call__(self, params: object, dataset: Dataset) -> dict[str, float]:
        """``loss`` per target token, in nats, and ``token_accuracy`` in percent."""
        total = np.zeros(len(Sums._fields))
        for batch in eval_batches(dataset, self._rows):
            total += np.array(self._layout.fetch(self._step(params, self._layout.shard_replicated_batch(batch))))
        loss, correct, weight, _ = total
        return {"loss": loss / weight, "token_accuracy": 100 * correct / weight}


class Decoded(NamedTuple):
    """What a model made of some examples."""

    metrics: dict[str, float]
    hypotheses: list[str]


def decode_examples(predictor: Predictor, examples: Examples, decode: DecodeConfig) -> Decoded:
    """Decodes sources and scores them with the metrics that the run's config names."""
    hypotheses = predictor.decode(examples.sources, decode)
    config = predictor.config.eval
    found = compute_metrics(config.metrics, config.metric_options, hypotheses, examples.references)
    return Decoded(found, hypotheses)


class Evaluated(NamedTuple):
    """How good a model is on some examples, and what it made of them."""

    metrics: dict[str, float]
    examples: Examples
    hypotheses: list[str]


def evaluate_split(predictor: Predictor, split: tasks.Split, decode: DecodeConfig, max_examples: int) -> Evaluated:
    """All metrics of a trained model on one split of its data, or on ``max_examples`` spread evenly over it."""
    config = predictor.config
    examples = tasks.load(config.data, split, config.seed).sample(max_examples)
    dataset, _ = make_dataset(examples, *predictor.vocabularies, config.data, "truncate")
    forced = TeacherForced(predictor.model_of(decode), config.train, predictor.layout)(predictor.params, dataset)
    decoded = decode_examples(predictor, examples, decode)
    return Evaluated(forced | decoded.metrics, examples, decoded.hypotheses)
