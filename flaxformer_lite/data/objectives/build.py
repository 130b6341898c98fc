"""Self-supervised objectives by their names in ``data.objective``."""

from __future__ import annotations

from flaxformer_lite.config import import_path
from flaxformer_lite.config.dataclasses import DataConfig
from flaxformer_lite.data.objectives.bart import Bart
from flaxformer_lite.data.objectives.base import BoundObjective, Objective
from flaxformer_lite.data.objectives.prefix_lm import PrefixLm
from flaxformer_lite.data.objectives.span_corruption import SpanCorruption
from flaxformer_lite.data.objectives.ul2 import Ul2
from flaxformer_lite.data.vocabularies.base import Vocabulary

OBJECTIVES = {"span_corruption": SpanCorruption, "ul2": Ul2, "bart": Bart, "prefix_lm": PrefixLm}


def build_objective(config: DataConfig, vocabulary: Vocabulary) -> BoundObjective:
    """Builds the objective of a config, other than ``supervised``, for the ids of a vocabulary.

    Raises:
      InputError: its options are invalid, or the vocabulary lacks a special token that it needs.
    """
    kind = OBJECTIVES.get(config.objective)
    path = f"{kind.__module__}:{kind.__qualname__}" if kind else config.objective
    objective: Objective = import_path.build(path, config.objective_options, "data.objective")
    return objective.bind(vocabulary)
