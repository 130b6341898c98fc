"""From nested plain values to a checked ``Config`` and back: strict, and with errors that name the key."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from flaxformer_lite.config import Config, DataConfig, DecodeConfig, ModelConfig, OptimConfig
from flaxformer_lite.errors import InputError

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
    _check_data(config.data)
    _check_model(config.model, config.data.share_vocabulary)
    _check_training(config)
    _check_optim(config.optim, config.train.steps)
    _check_decoding(config.decode)
    _check_devices(config)


def _check_data(data: DataConfig) -> None:
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


def _check_model(model: ModelConfig, one_vocabulary: bool) -> None:
    _require(
        model.share_embeddings != "all" or one_vocabulary,
        "config.model.share_embeddings='all' needs config.data.share_vocabulary=True: one table cannot hold two "
        "vocabularies",
    )
    if "transformer" in (model.encoder, model.decoder):
        _require(
            model.width % model.num_heads == 0,
            f"config.model.num_heads={model.num_heads} must divide config.model.width={model.width}",
        )
        _require(
            model.positions != "sinusoidal" or model.width % 2 == 0,
            f"config.model.width={model.width} must be even for config.model.positions='sinusoidal'",
        )
    else:
        _require(
            not model.scan_layers,
            "config.model.scan_layers=True scans the layers of a Transformer; config.model.encoder and "
            "config.model.decoder are 'rnn', whose layers differ",
        )
    if "rnn" in (model.encoder, model.decoder):
        _check_rnn(model)


def _check_rnn(model: ModelConfig) -> None:
    rnn, attends = model.rnn, model.decoder == "rnn" and model.rnn.design in ("bahdanau", "luong")
    embedding, readout = rnn.embedding_width or model.width, rnn.readout_width or model.width
    _require(
        rnn.residual_from != 1,
        "config.model.rnn.residual_from=1: the lowest layer's input has another width than its output; use 2 or more",
    )
    _require(
        model.share_embeddings != "all" or model.encoder == model.decoder or embedding == model.width,
        f"config.model.share_embeddings='all' needs one width of word vectors, but the Transformer's is "
        f"config.model.width={model.width} and the recurrent side's config.model.rnn.embedding_width={embedding}",
    )
    if model.decoder != "rnn":
        return
    _require(
        model.share_embeddings == "none" or embedding == readout,
        f"config.model.share_embeddings={model.share_embeddings!r} compares what config.model.rnn.readout_width="
        f"{readout} numbers say with word vectors of config.model.rnn.embedding_width={embedding}: make them equal or "
        f"share_embeddings='none'",
    )
    _require(
        rnn.design != "sutskever" or readout == model.width,
        f"config.model.rnn.readout_width={readout}: config.model.rnn.design='sutskever' says its top layer, of "
        f"config.model.width={model.width}; set it to 0",
    )
    _require(
        not rnn.input_feeding or rnn.design == "luong",
        f"config.model.rnn.input_feeding=True feeds back what was attended after a step; "
        f"config.model.rnn.design={rnn.design!r} does not attend there, 'luong' does",
    )
    _require(
        not attends or rnn.attention != "dot" or model.encoder != "rnn" or rnn.direction != "both",
        "config.model.rnn.attention='dot' compares states of one width, and with config.model.rnn.direction='both' the "
        "source's are twice as wide as the decoder's: use attention='general', or one direction",
    )
    _require(
        rnn.bridge != "copy"
        or (model.encoder == "rnn" and rnn.direction != "both" and model.num_layers == model.num_decoder_layers),
        f"config.model.rnn.bridge='copy' needs a recurrent encoder of one direction with as many layers as the other, "
        f"got config.model.encoder={model.encoder!r}, config.model.rnn.direction={rnn.direction!r}, "
        f"config.model.num_layers={model.num_layers}, config.model.num_decoder_layers={model.num_decoder_layers}; "
        f"bridge='dense' takes any",
    )


def _check_training(config: Config) -> None:
    train = config.train
    _require(
        train.r_drop == 0 or config.model.dropout > 0,
        f"config.train.r_drop={train.r_drop} compares two passes with other dropout: set config.model.dropout above 0",
    )
    _require(
        config.eval.best_metric in ("loss", "token_accuracy", *config.eval.metrics),
        f"config.eval.best_metric={config.eval.best_metric!r} is not computed: add it to "
        f"config.eval.metrics={config.eval.metrics}",
    )


def _check_optim(optim: OptimConfig, steps: int) -> None:
    _require(
        optim.schedule not in ("cosine", "linear") or optim.warmup_steps < steps,
        f"config.optim.warmup_steps={optim.warmup_steps} must be below config.train.steps={steps}, or the rate never "
        f"falls",
    )
    _require(
        optim.schedule == "wsd" or optim.decay_steps == 0,
        f"config.optim.decay_steps={optim.decay_steps} belongs to config.optim.schedule='wsd', not to "
        f"{optim.schedule!r}",
    )
    _require(
        optim.schedule != "wsd" or 0 < optim.decay_steps <= steps - optim.warmup_steps,
        f"config.optim.decay_steps={optim.decay_steps} of config.optim.schedule='wsd' must be at least 1 and, with "
        f"config.optim.warmup_steps={optim.warmup_steps}, at most config.train.steps={steps}",
    )
    _require(
        optim.weight_decay == 0 or optim.optimizer != "adam",
        f"config.optim.weight_decay={optim.weight_decay}: config.optim.optimizer='adam' has none; 'adamw' has",
    )
    _require(
        optim.weight_decay > 0 or not optim.no_decay,
        f"config.optim.no_decay={optim.no_decay} takes from config.optim.weight_decay, which is 0",
    )
    for rule in optim.rates:
        _require(
            _is_positive(rule.rpartition("=")[2]),
            f"config.optim.rates: {rule!r} must be a pattern, '=' and a factor above 0, such as 'encoder/=0.1'; "
            f"config.optim.frozen is for what shall not move at all",
        )
    rated = [rule.rpartition("=")[0] for rule in optim.rates]
    for key, patterns in {"no_decay": optim.no_decay, "rates": rated, "frozen": optim.frozen}.items():
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise InputError(f"config.optim.{key}: {pattern!r} is no regular expression: {error}") from error


def _is_positive(number: str) -> bool:
    try:
        return 0 < float(number) < math.inf
    except ValueError:
        return False


def _check_decoding(decode: DecodeConfig) -> None:
    most = {"greedy": 1, "beam": decode.beam_size}.get(decode.method, decode.samples)
    _require(
        decode.n_best <= most,
        f"config.decode.n_best={decode.n_best}: beam search gives at most config.decode.beam_size={decode.beam_size} "
        f"hypotheses, sampling config.decode.samples={decode.samples}, greedy search one "
        f"(config.decode.method={decode.method!r})",
    )
    _require(
        decode.beam_size % decode.beam_groups == 0,
        f"config.decode.beam_groups={decode.beam_groups} must divide config.decode.beam_size={decode.beam_size}",
    )
    _require(
        decode.early_stopping == "false" or decode.convention == "hf",
        f"config.decode.early_stopping={decode.early_stopping!r} belongs to config.decode.convention='hf', not to "
        f"{decode.convention!r}",
    )


def _check_devices(config: Config) -> None:
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
    "model.rnn.embedding_width": 0,
    "model.rnn.attention_width": 0,
    "model.rnn.readout_width": 0,
    "model.rnn.residual_from": 0,
    "optim.learning_rate": 0,
    "optim.warmup_steps": 0,
    "optim.decay_steps": 0,
    "optim.plateau.factor": 0.01,
    "optim.plateau.patience": 1,
    "optim.plateau.window": 1,
    "optim.momentum": 0,
    "optim.beta1": 0,
    "optim.beta2": 0,
    "optim.epsilon": 0,
    "optim.weight_decay": 0,
    "optim.clip_norm": 0,
    "train.steps": 1,
    "train.batch_size": 1,
    "train.accumulate": 1,
    "train.label_smoothing": 0,
    "train.z_loss": 0,
    "train.r_drop": 0,
    "train.distill.weight": 0,
    "train.distill.temperature": 0.01,
    "train.ema_decay": 0,
    "train.log_every": 1,
    "train.eval_every": 1,
    "train.save_every": 1,
    "train.keep_latest": 1,
    "train.keep_best": 0,
    "train.patience": 0,
    "train.max_skipped": 1,
    "train.max_compiles": 0,
    "eval.max_examples": 0,
    "eval.samples": 0,
    "decode.beam_size": 1,
    "decode.length_penalty": 0,
    "decode.beam_groups": 1,
    "decode.diversity_penalty": 0,
    "decode.samples": 1,
    "decode.temperature": 0.01,
    "decode.top_k": 0,
    "decode.top_p": 0.001,
    "decode.min_p": 0,
    "decode.repetition_penalty": 0.01,
    "decode.no_repeat_ngram": 0,
    "decode.min_length": 0,
    "decode.n_best": 1,
    "decode.batch_size": 1,
    "decode.max_length_ratio": 0,
    "decode.max_length_offset": 1,
}
_BELOW_ONE = (
    *("model.dropout", "train.label_smoothing", "train.ema_decay"),
    *("optim.plateau.factor", "optim.beta1", "optim.beta2", "optim.momentum"),
)
_AT_MOST_ONE = ("train.distill.weight", "decode.top_p", "decode.min_p")


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
    for key in _AT_MOST_ONE:
        _require(get(key) <= 1, f"config.{key}={get(key)}: must be at most 1")
