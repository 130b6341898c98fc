"""Metrics by their names in ``eval.metrics``, and utilities of one hypothesis by their names in ``decode.utility``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flaxformer_lite.config import import_path
from flaxformer_lite.metrics.error_rates import References, edit_similarity, exact_match, per, wer
from flaxformer_lite.metrics.sacrebleu import bleu, chrf, sentence_bleu, sentence_chrf

Metric = Callable[[Sequence[str], References], float]

# "module:name" is a function or a dataclass of options with __call__, optionally with an attribute lower_is_better.
METRICS: dict[str, Metric] = {"exact_match": exact_match, "wer": wer, "per": per, "bleu": bleu, "chrf": chrf}
UTILITIES: dict[str, Callable[[str, str], float]] = {
    "chrf": sentence_chrf,
    "bleu": sentence_bleu,
    "edit_distance": edit_similarity,
}
_LOWER_IS_BETTER = {name: name in ("loss", "wer", "per") for name in ("loss", "token_accuracy", *METRICS)}


def make_metrics(names: Sequence[str], options: Mapping[str, Any]) -> dict[str, Metric]:
    """Returns the metrics of these names.

    Args:
      names: keys of ``METRICS`` or import paths.
      options: the options of each import path, by the name of its class (``eval.metric_options``).

    Raises:
      InputError: an import path cannot be imported, or its options are invalid.
      ValueError: there is no such metric.
    """
    if unknown := sorted(name for name in names if name not in METRICS and not import_path.is_import_path(name)):
        raise ValueError(f"no metrics are named {unknown}; there are {', '.join(METRICS)}")
    return {
        name: METRICS.get(name) or import_path.build(name, options.get(name.rpartition(":")[2], {}), "eval.metrics")
        for name in names
    }


def compute_metrics(
    names: Sequence[str], options: Mapping[str, Any], hypotheses: Sequence[str], references: References
) -> dict[str, float]:
    """Computes metrics of hypotheses.

    Args:
      names: see ``make_metrics``.
      options: see ``make_metrics``.
      hypotheses: one for each source.
      references: for each source, one or more.

    Raises:
      InputError: see ``make_metrics``.
      ValueError: there is no such metric, no hypothesis, or a hypothesis without references.
    """
    return {name: float(metric(hypotheses, references)) for name, metric in make_metrics(names, options).items()}


def lower_is_better(name: str) -> bool:
    """Whether a metric counts errors; ``loss`` and ``token_accuracy`` count as metrics.

    Args:
      name: of the metric, also of one task of a mixture, such as ``de-en/bleu``.

    Raises:
      InputError: an import path cannot be imported.
      ValueError: there is no such metric.
    """
    name = next((part for part in name.split("/") if _is_metric(part)), name)
    if import_path.is_import_path(name):
        return bool(getattr(import_path.load_target(name, "eval.metrics"), "lower_is_better", False))
    if name not in _LOWER_IS_BETTER:
        raise ValueError(f"no metric is named {name!r}")
    return _LOWER_IS_BETTER[name]


def _is_metric(name: str) -> bool:
    return name in _LOWER_IS_BETTER or import_path.is_import_path(name)
