"""Types of config keys beyond the built-in ones: bounded numbers, kinds that may be import paths, free options."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Bounds:
    """Metadata of an ``Annotated`` number: the values that it may have."""

    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None

    def violation(self, value: float) -> str:
        """The bound that a number violates, such as ``must be at least 1``; "" where it violates none."""
        if self.at_least is not None and not value >= self.at_least:
            return f"must be at least {self.at_least}"
        if self.at_most is not None and not value <= self.at_most:
            return f"must be at most {self.at_most}"
        return f"must be below {self.below}" if self.below is not None and not value < self.below else ""


_MAX_INT = 2**31 - 1  # of int32, in which sizes and counters are computed
PositiveInt = Annotated[int, Bounds(at_least=1, at_most=_MAX_INT)]
NonNegativeInt = Annotated[int, Bounds(at_least=0, at_most=_MAX_INT)]
Seed = Annotated[int, Bounds(at_least=0, at_most=2**53)]  # JSON represents larger numbers inexactly
NonNegativeFloat = Annotated[float, Bounds(at_least=0)]
PositiveFloat = Annotated[float, Bounds(at_least=0.01)]
Rate = Annotated[float, Bounds(at_least=0, below=1)]  # of dropout or decay, where 1 would leave nothing
Fraction = Annotated[float, Bounds(at_least=0, at_most=1)]


class IsImportPath:
    """Metadata of ``ImportPath``."""


# ``Literal["a", "b"] | ImportPath`` is a kind that is implemented here or named as ``module:name``.
ImportPath = Annotated[str, IsImportPath()]


def is_import_path(kind: str) -> bool:
    """Whether a kind is an import path ``module:name`` and not the name of a kind that is implemented here."""
    return _IMPORT_PATH.fullmatch(kind) is not None


class Options(dict[str, Any]):
    """Plain values of the options that an imported class declares; hashable, as configs are, and never modified."""

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return hash(json.dumps(self, sort_keys=True))


# The free options of each key that accepts an import path. Where the key lists several, its options are keyed by the
# name of the class: config.eval.metric_options.Rouge belongs to "my_metrics:Rouge".
OPTIONS_KEYS = {
    "data.task": "data.options",
    "data.objective": "data.objective_options",
    "data.preprocess": "data.preprocess_options",
    "data.source_vocabulary.kind": "data.source_vocabulary.options",
    "data.target_vocabulary.kind": "data.target_vocabulary.options",
    "model.encoder.kind": "model.encoder.options",
    "model.decoder.kind": "model.decoder.options",
    "optim.optimizer": "optim.options",
    "optim.schedule": "optim.schedule_options",
    "decode.method": "decode.options",
}
LIST_OPTIONS_KEYS = {
    "eval.metrics": "eval.metric_options",
    "train.loss_terms": "train.loss_options",
    "decode.logits_processors": "decode.logits_processor_options",
}
