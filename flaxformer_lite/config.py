"""Every setting by name, type and check. Values live in ``configs/base.py`` and in the files that differ from it."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

from flaxformer_lite.errors import InputError


@dataclass(frozen=True)
class VocabularyConfig:
    """How text becomes token ids (``data.source_vocabulary``, ``data.target_vocabulary``)."""

    kind: Literal["byte", "character", "word", "sentencepiece"]
    size: int  # at most this many entries, special ones included; 0: as many as the training text has
    model: str  # a SentencePiece model file to use as it is; "": train one


@dataclass(frozen=True)
class CmudictConfig:
    """The CMU pronouncing dictionary."""

    keep_stress: bool
    data_dir: str  # where the prepared data set is kept; "": the user's cache folder


@dataclass(frozen=True)
class TextConfig:
    """The user's own text: for each split two parallel files, or one file of tab-separated columns."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class TfdsConfig:
    """Any prepared TensorFlow Datasets data set with two text features."""

    name: str
    data_dir: str  # "": TFDS's own default
    source_feature: str
    target_feature: str


@dataclass(frozen=True)
class ReverseConfig:
    """Random short strings and their reversals."""

    alphabet: str
    min_length: int
    max_length: int
    examples: int  # of the training split; validation and test have a tenth each


@dataclass(frozen=True)
class DataConfig:
    """What to learn from, and how it is cut into batches."""

    task: Literal["cmudict", "text", "tfds", "reverse"]
    cmudict: CmudictConfig
    text: TextConfig
    tfds: TfdsConfig
    reverse: ReverseConfig
    source_vocabulary: VocabularyConfig
    target_vocabulary: VocabularyConfig
    share_vocabulary: bool
    max_source_length: int
    max_target_length: int
    overlong: Literal["drop", "truncate"]
    buckets: int
    prefetch: int


@dataclass(frozen=True)
class ModelConfig:
    """The Transformer of Vaswani et al. (2017)."""

    width: int
    num_heads: int
    mlp_width: int
    num_layers: int
    num_decoder_layers: int
    positions: Literal["sinusoidal", "learned"]
    norm: Literal["before", "after"]
    share_embeddings: Literal["all", "target", "none"]
    dropout: float


@dataclass(frozen=True)
class OptimConfig:
    """How parameters follow gradients."""

    optimizer: Literal["adam", "adamw"]
    learning_rate: float
    schedule: Literal["inverse_sqrt", "cosine", "linear", "constant"]
    warmup_steps: int
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    clip_norm: float


@dataclass(frozen=True)
class TrainConfig:
    """The training run."""

    steps: int
    batch_size: int
    loss: Literal["cross_entropy", "kl_divergence"]
    label_smoothing: float
    log_every: int
    eval_every: int
    save_every: int
    keep_latest: int
    keep_best: int
    patience: int
    max_skipped: int


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation during training and by the ``evaluate`` command."""

    metrics: tuple[Literal["exact_match", "wer", "per", "bleu", "chrf"], ...]
    best_metric: Literal["loss", "token_accuracy", "exact_match", "wer", "per", "bleu", "chrf"]
    max_examples: int
    samples: int


@dataclass(frozen=True)
class DecodeConfig:
    """From a source to hypotheses."""

    method: Literal["greedy", "beam"]
    beam_size: int
    length_penalty: float
    n_best: int
    batch_size: int
    max_length_ratio: float
    max_length_offset: int


@dataclass(frozen=True)
class MeshConfig:
    """How many devices lie along each axis of the mesh; -1: all that are left."""

    data: int
    fsdp: int
    tensor: int


@dataclass(frozen=True)
class ParallelConfig:
    """How the one train step is compiled for many devices."""

    mode: Literal["jit", "pmap"]


@dataclass(frozen=True)
class Config:
    """A whole run."""

    seed: int
    data: DataConfig
    model: ModelConfig
    optim: OptimConfig
    train: TrainConfig
    eval: EvalConfig
    decode: DecodeConfig
    mesh: MeshConfig
    parallel: ParallelConfig


T = TypeVar("T")


def from_dict(values: Mapping[str, Any]) -> Config:
    """Makes a checked ``Config`` of nested plain values.

    Raises:
      InputError: a key is unknown, missing or ill-typed, or values contradict one another; it names the key (and the
        nearest known one).
    """
    config = _build(Config, values, path="")
    _check(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain values that ``from_dict`` (also after a trip through JSON) makes the same config of."""
    return dataclasses.asdict(config)


def known_keys(kind: Any = Config, prefix: str = "") -> list[str]:
    """All dotted keys, such as ``model.num_layers``."""
    keys = []
    for name, hint in typing.get_type_hints(kind).items():
        keys += known_keys(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else [f"{prefix}{name}"]
    return keys


def unknown_key(key: str) -> InputError:
    """The error for a dotted key that does not exist, with the nearest one that does."""
    known = known_keys()
    leaf = key.rpartition(".")[2]
    near = difflib.get_close_matches(key, known + _groups(), n=1, cutoff=0.6) or [
        k for k in known if k.rpartition(".")[2] == leaf
    ]
    hint = f"; did you mean config.{near[0]}?" if near else f"; the groups are {', '.join(_groups())}"
    return InputError(f"config.{key}: there is no such key{hint}")


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line ``key: old → new`` for each value in which two nested dictionaries differ."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += difference(before, after, f"{prefix}{key}.")
        elif _plain(before) != _plain(after):
            lines.append(f"{prefix}{key}: {before!r} → {after!r}")
    return lines


def _groups() -> list[str]:
    return [field.name for field in dataclasses.fields(Config)]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _build(kind: type[T], values: Any, path: str) -> T:
    if not isinstance(values, Mapping):
        raise InputError(f"config.{path.rstrip('.')} is a group of keys, got {values!r}")
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise unknown_key(f"{path}{key}")
    for key in hints:
        if key not in values:
            raise InputError(f"config.{path}{key} is missing; start from configs/base.py, which has every key")
    return kind(**{key: _value(hint, values[key], f"{path}{key}") for key, hint in hints.items()})


def _value(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, f"{path}.")
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            near = difflib.get_close_matches(str(value), get_args(hint), n=1)
            raise InputError(
                f"config.{path}={value!r}: must be one of {', '.join(get_args(hint))}"
                + (f"; did you mean {near[0]}?" if near else "")
            )
        return value
    if get_origin(hint) is tuple:
        element = get_args(hint)[0]
        if not isinstance(value, tuple | list):
            raise InputError(f"config.{path}={value!r}: must be a tuple, such as ('a', 'b')")
        return tuple(_value(element, item, f"{path}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"config.{path}={value!r}: must be of type {hint.__name__}, got {type(value).__name__}")
    if hint is float and not math.isfinite(value):
        raise InputError(f"config.{path}={value!r}: must be a finite number")
    return value


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def _check(config: Config) -> None:
    """Values that are wrong by themselves or contradict one another."""
    _check_ranges(config)
    model, data, train, optim, decode = config.model, config.data, config.train, config.optim, config.decode
    _require(
        model.width % model.num_heads == 0,
        f"config.model.num_heads={model.num_heads} must divide config.model.width={model.width}",
    )
    _require(
        model.positions != "sinusoidal" or model.width % 2 == 0,
        f"config.model.width={model.width} must be even for config.model.positions='sinusoidal'",
    )
    _require(
        model.share_embeddings != "all" or data.share_vocabulary,
        "config.model.share_embeddings='all' needs config.data.share_vocabulary=True: one table cannot hold two "
        "vocabularies",
    )
    _require(
        not data.share_vocabulary or data.source_vocabulary == data.target_vocabulary,
        "config.data.share_vocabulary=True needs config.data.source_vocabulary and config.data.target_vocabulary to be "
        f"the same, got {data.source_vocabulary} and {data.target_vocabulary}",
    )
    _require(
        data.reverse.min_length <= data.reverse.max_length,
        f"config.data.reverse.min_length={data.reverse.min_length} is above "
        f"config.data.reverse.max_length={data.reverse.max_length}",
    )
    _require(
        optim.schedule in ("constant", "inverse_sqrt") or optim.warmup_steps < train.steps,
        f"config.optim.warmup_steps={optim.warmup_steps} must be below config.train.steps={train.steps}, or the rate "
        f"never falls",
    )
    _require(
        optim.weight_decay == 0 or optim.optimizer == "adamw",
        f"config.optim.weight_decay={optim.weight_decay} needs config.optim.optimizer='adamw'; 'adam' has none",
    )
    _require(
        decode.n_best <= decode.beam_size if decode.method == "beam" else decode.n_best == 1,
        f"config.decode.n_best={decode.n_best}: beam search gives at most config.decode.beam_size={decode.beam_size} "
        f"hypotheses, greedy search one (config.decode.method={decode.method!r})",
    )
    _require(
        config.eval.best_metric in ("loss", "token_accuracy", *config.eval.metrics),
        f"config.eval.best_metric={config.eval.best_metric!r} is not computed: add it to "
        f"config.eval.metrics={config.eval.metrics}",
    )
    sizes = dataclasses.astuple(config.mesh)
    _require(
        all(size == -1 or size > 0 for size in sizes) and sizes.count(-1) <= 1,
        f"config.mesh={sizes}: sizes are positive, and at most one is -1 (all devices that are left)",
    )
    _require(
        config.parallel.mode == "jit" or (config.mesh.fsdp == 1 and config.mesh.tensor == 1),
        f"config.parallel.mode='pmap' is plain data parallelism: set config.mesh.fsdp={config.mesh.fsdp} and "
        f"config.mesh.tensor={config.mesh.tensor} to 1, or use parallel.mode='jit'",
    )


# Smallest allowed value of every number that has one.
_AT_LEAST = {
    "seed": 0,
    "data.source_vocabulary.size": 0,
    "data.target_vocabulary.size": 0,
    "data.reverse.min_length": 1,
    "data.reverse.examples": 10,
    "data.max_source_length": 2,
    "data.max_target_length": 2,
    "data.buckets": 1,
    "data.prefetch": 0,
    "model.width": 1,
    "model.num_heads": 1,
    "model.mlp_width": 1,
    "model.num_layers": 1,
    "model.num_decoder_layers": 1,
    "model.dropout": 0,
    "optim.learning_rate": 0,
    "optim.warmup_steps": 0,
    "optim.beta1": 0,
    "optim.beta2": 0,
    "optim.epsilon": 0,
    "optim.weight_decay": 0,
    "optim.clip_norm": 0,
    "train.steps": 1,
    "train.batch_size": 1,
    "train.label_smoothing": 0,
    "train.log_every": 1,
    "train.eval_every": 1,
    "train.save_every": 1,
    "train.keep_latest": 1,
    "train.keep_best": 0,
    "train.patience": 0,
    "train.max_skipped": 1,
    "eval.max_examples": 0,
    "eval.samples": 0,
    "decode.beam_size": 1,
    "decode.length_penalty": 0,
    "decode.n_best": 1,
    "decode.batch_size": 1,
    "decode.max_length_ratio": 0,
    "decode.max_length_offset": 1,
}
_BELOW_ONE = ("model.dropout", "train.label_smoothing", "optim.beta1", "optim.beta2")


def _check_ranges(config: Config) -> None:
    def get(key: str) -> float:
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name)
        return value

    for key, low in _AT_LEAST.items():
        _require(get(key) >= low, f"config.{key}={get(key)}: must be at least {low}")
    for key in _BELOW_ONE:
        _require(get(key) < 1, f"config.{key}={get(key)}: must be below 1")
