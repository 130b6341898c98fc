"""Values of a config that are wrong by themselves or contradict one another."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any

from flaxformer_lite.config.dataclasses import (
    LIST_OPTIONS_KEYS,
    OPTIONS_KEYS,
    Config,
    DataConfig,
    DecodeConfig,
    ModelConfig,
    OptimConfig,
)
from flaxformer_lite.config.key_types import is_import_path
from flaxformer_lite.config.ranges import check_ranges
from flaxformer_lite.errors import InputError, require


def check(config: Config) -> None:
    """Raises ``InputError`` of the first value that is wrong by itself or contradicts another."""
    check_ranges(config)
    _check_options(config)
    _check_data(config.data)
    _check_model(config.model, config.data.share_vocabulary)
    _check_training(config)
    _check_optim(config.optim, config.train.steps)
    _check_decoding(config.decode)
    _check_devices(config)


def refuse_float16(values: Mapping[str, Any]) -> None:
    """Raises ``InputError`` with the reason where a config asks for float16.

    Args:
      values: its nested plain values, of which nothing is known yet.
    """
    kind = _group(_group(values, "model"), "norms").get("kind")
    if kind in ("rms", "rms_from_one"):
        reason = (
            f"with config.model.norms.kind={kind!r}, as in T5 and its kin, activations of large models exceed the "
            f"65504 that it reaches to, and become infinite"
        )
    else:
        reason = "gradients below what it tells from 0 would vanish, and no loss is scaled here to prevent it"
    for key, dtype in _group(values, "precision").items():
        require(
            dtype != "float16",
            f"config.precision.{key}='float16' is not supported: {reason}; 'bfloat16' takes as much memory and reaches "
            f"as far as float32",
        )


def _group(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The group of keys that has this name; none where there is none."""
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _check_options(config: Config) -> None:
    """Refuses options that no import path has: a kind that is implemented here has keys of its own."""
    for key, options_key in OPTIONS_KEYS.items():
        kind, options = _get(config, key), _get(config, options_key)
        reason = f"config.{key}={kind!r} has no free options; those of an import path module:name are given here"
        require(is_import_path(kind) or not options, f"config.{options_key}={dict(options)!r}", reason)
    for key, options_key in LIST_OPTIONS_KEYS.items():
        names = [path.rpartition(":")[2] for path in _get(config, key) if is_import_path(path)]
        require(len(set(names)) == len(names), f"config.{key}={_get(config, key)!r}", "must have distinct class names")
        for name, options in _get(config, options_key).items():
            near = f"the import paths there end in {', '.join(names)}" if names else ""
            require(
                name in names, f"config.{options_key}.{name}", f"config.{key} names no import path MODULE:{name}", near
            )
            require(
                isinstance(options, Mapping), f"config.{options_key}.{name}={options!r}", "must be a group of options"
            )


def _get(config: Config, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), config)


def _check_data(data: DataConfig) -> None:
    saved = data.source_vocabulary.kind == data.target_vocabulary.kind == "saved"  # which say themselves what they are
    require(
        not data.share_vocabulary or data.source_vocabulary == data.target_vocabulary or saved,
        "config.data.share_vocabulary=True needs config.data.source_vocabulary and config.data.target_vocabulary to be "
        f"the same, got {data.source_vocabulary} and {data.target_vocabulary}",
    )
    has_validation = data.task in ("cmudict", "reverse") or (data.task == "text" and any(data.text.validation))
    require(
        data.validation_fraction == 0 or not has_validation,
        f"config.data.validation_fraction={data.validation_fraction}",
        f"config.data.task={data.task!r} has a validation split",
        "set it to 0",
    )
    require(
        data.reverse.min_length <= data.reverse.max_length,
        f"config.data.reverse.min_length={data.reverse.min_length} is above "
        f"config.data.reverse.max_length={data.reverse.max_length}",
    )


def _check_model(model: ModelConfig, one_vocabulary: bool) -> None:
    require(
        model.share_embeddings not in ("all", "inputs") or one_vocabulary,
        f"config.model.share_embeddings={model.share_embeddings!r} needs config.data.share_vocabulary=True: one table "
        f"cannot hold two vocabularies",
    )
    if model.encoder == "transformer":
        _check_half(model, "", model.width, model.num_heads, model.num_key_heads, model.head_width)
    if model.decoder == "transformer":
        sizes = model.num_decoder_heads, model.num_decoder_key_heads, model.decoder_head_width
        _check_half(model, "decoder_", model.decoder_width, *sizes)
    if "transformer" in (model.encoder, model.decoder):
        _check_positions(model)
    else:
        require(
            not model.scan_layers,
            "config.model.scan_layers=True scans the layers of a Transformer; config.model.encoder and "
            "config.model.decoder are 'rnn', whose layers differ",
        )
    if "rnn" in (model.encoder, model.decoder):
        _check_rnn(model)
    else:
        require(
            model.share_embeddings not in ("all", "inputs") or model.width == model.decoder_width,
            f"config.model.share_embeddings={model.share_embeddings!r} needs word vectors of one width, got "
            f"config.model.width={model.width} and config.model.decoder_width={model.decoder_width}",
        )


def _check_half(model: ModelConfig, side: str, width: int, heads: int, key_heads: int, head_width: int) -> None:
    names = {name: f"config.model.num_{side}{name}" for name in ("heads", "key_heads")}
    require(
        head_width > 0 or width % heads == 0,
        f"{names['heads']}={heads} must divide config.model.{side}width={width}, or config.model.{side}head_width be "
        f"set",
    )
    require(
        model.positions not in ("sinusoidal", "halves", "fairseq") or width % 2 == 0,
        f"config.model.{side}width={width} must be even for config.model.positions={model.positions!r}",
    )
    require(
        model.positions != "fairseq" or width > 2,
        f"config.model.{side}width={width} must be above 2 for config.model.positions='fairseq'",
    )
    require(
        model.positions != "rotary" or (head_width or width // heads) % 2 == 0,
        f"config.model.{side}head_width={head_width or width // heads} (model.{side}width / model.num_{side}heads "
        f"unless set) must be even for config.model.positions='rotary'",
    )
    require(heads % key_heads == 0, f"{names['key_heads']}={key_heads} must divide {names['heads']}={heads}")


def _check_positions(model: ModelConfig) -> None:
    details, attention = model.position_details, model.attention
    require(
        details.max_distance > details.buckets // 2,
        f"config.model.position_details.max_distance={details.max_distance} must be above half of "
        f"config.model.position_details.buckets={details.buckets}: so many distances have a bucket each",
    )
    require(
        bool(attention.pattern),
        "config.model.attention.pattern=() says nothing of any layer; ('full',) is usual",
    )
    require(
        ("window" in attention.pattern) == (attention.window > 0),
        f"config.model.attention.window={attention.window} is of layers that config.model.attention.pattern="
        f"{attention.pattern} names 'window'; set both or none",
    )


def _check_rnn(model: ModelConfig) -> None:
    require(
        model.width == model.decoder_width or model.decoder != "rnn",
        f"config.model.decoder_width={model.decoder_width}: a recurrent decoder's width is that of the encoder, "
        f"config.model.width={model.width}",
    )
    rnn, attends = model.rnn, model.decoder == "rnn" and model.rnn.design in ("bahdanau", "luong")
    embedding, readout = rnn.embedding_width or model.width, rnn.readout_width or model.width
    require(
        rnn.residual_from != 1,
        "config.model.rnn.residual_from=1: the lowest layer's input has another width than its output; use 2 or more",
    )
    require(
        model.share_embeddings not in ("all", "inputs") or model.encoder == model.decoder or embedding == model.width,
        f"config.model.share_embeddings={model.share_embeddings!r} needs one width of word vectors, but the "
        f"Transformer's is config.model.width={model.width} and the recurrent side's "
        f"config.model.rnn.embedding_width={embedding}",
    )
    if model.decoder != "rnn":
        return
    require(
        model.share_embeddings in ("inputs", "none") or embedding == readout,
        f"config.model.share_embeddings={model.share_embeddings!r} compares what config.model.rnn.readout_width="
        f"{readout} numbers say with word vectors of config.model.rnn.embedding_width={embedding}: make them equal or "
        f"share_embeddings='none'",
    )
    require(
        rnn.design != "sutskever" or readout == model.width,
        f"config.model.rnn.readout_width={readout}: config.model.rnn.design='sutskever' says its top layer, of "
        f"config.model.width={model.width}; set it to 0",
    )
    require(
        not rnn.input_feeding or rnn.design == "luong",
        f"config.model.rnn.input_feeding=True feeds back what was attended after a step; "
        f"config.model.rnn.design={rnn.design!r} does not attend there, 'luong' does",
    )
    require(
        not attends or rnn.attention != "dot" or model.encoder != "rnn" or rnn.direction != "both",
        "config.model.rnn.attention='dot' compares states of one width, and with config.model.rnn.direction='both' the "
        "source's are twice as wide as the decoder's: use attention='general', or one direction",
    )
    require(
        rnn.bridge != "copy"
        or (model.encoder == "rnn" and rnn.direction != "both" and model.num_layers == model.num_decoder_layers),
        f"config.model.rnn.bridge='copy' needs a recurrent encoder of one direction with as many layers as the other, "
        f"got config.model.encoder={model.encoder!r}, config.model.rnn.direction={rnn.direction!r}, "
        f"config.model.num_layers={model.num_layers}, config.model.num_decoder_layers={model.num_decoder_layers}; "
        f"bridge='dense' takes any",
    )


def _check_training(config: Config) -> None:
    train = config.train
    require(
        train.r_drop == 0 or config.model.dropout > 0,
        f"config.train.r_drop={train.r_drop} compares two passes with other dropout: set config.model.dropout above 0",
    )
    require(
        config.eval.best_metric in ("loss", "token_accuracy", *config.eval.metrics),
        f"config.eval.best_metric={config.eval.best_metric!r} is not computed: add it to "
        f"config.eval.metrics={config.eval.metrics}",
    )


def _check_optim(optim: OptimConfig, steps: int) -> None:
    require(
        optim.schedule not in ("cosine", "linear") or optim.warmup_steps < steps,
        f"config.optim.warmup_steps={optim.warmup_steps} must be below config.train.steps={steps}, or the rate never "
        f"falls",
    )
    require(
        optim.schedule == "wsd" or optim.decay_steps == 0,
        f"config.optim.decay_steps={optim.decay_steps} belongs to config.optim.schedule='wsd', not to "
        f"{optim.schedule!r}",
    )
    require(
        optim.schedule != "wsd" or 0 < optim.decay_steps <= steps - optim.warmup_steps,
        f"config.optim.decay_steps={optim.decay_steps} of config.optim.schedule='wsd' must be at least 1 and, with "
        f"config.optim.warmup_steps={optim.warmup_steps}, at most config.train.steps={steps}",
    )
    require(
        optim.weight_decay == 0 or optim.optimizer != "adam",
        f"config.optim.weight_decay={optim.weight_decay}: config.optim.optimizer='adam' has none; 'adamw' has",
    )
    require(
        optim.weight_decay > 0 or not optim.no_decay,
        f"config.optim.no_decay={optim.no_decay} takes from config.optim.weight_decay, which is 0",
    )
    for rule in optim.lr_multipliers:
        require(
            _is_positive(rule.rpartition("=")[2]),
            f"config.optim.lr_multipliers: {rule!r} must be a pattern, '=' and a factor above 0, as in 'encoder/=0.1'; "
            f"config.optim.frozen is for what shall not move at all",
        )
    rated = [rule.rpartition("=")[0] for rule in optim.lr_multipliers]
    for key, patterns in {"no_decay": optim.no_decay, "lr_multipliers": rated, "frozen": optim.frozen}.items():
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
    most = {"greedy": 1, "beam": decode.beam_size}.get(decode.method, decode.num_samples)
    require(
        decode.n_best <= most or is_import_path(decode.method),
        f"config.decode.n_best={decode.n_best}: beam search gives at most config.decode.beam_size={decode.beam_size} "
        f"hypotheses, sampling config.decode.num_samples={decode.num_samples}, greedy search one "
        f"(config.decode.method={decode.method!r})",
    )
    require(
        decode.beam_size % decode.num_beam_groups == 0,
        f"config.decode.num_beam_groups={decode.num_beam_groups} must divide "
        f"config.decode.beam_size={decode.beam_size}",
    )
    require(
        decode.early_stopping == "false" or decode.beam_variant == "hf",
        f"config.decode.early_stopping={decode.early_stopping!r} belongs to config.decode.beam_variant='hf', not to "
        f"{decode.beam_variant!r}",
    )


def _check_devices(config: Config) -> None:
    sizes = dataclasses.astuple(config.mesh)
    require(
        all(size == -1 or size > 0 for size in sizes) and sizes.count(-1) <= 1,
        f"config.mesh={sizes}: sizes are positive, and at most one is -1 (all devices that are left)",
    )
    require(
        config.parallel.mode == "jit" or (config.mesh.fsdp == 1 and config.mesh.tensor == 1),
        f"config.parallel.mode='pmap' is plain data parallelism: set config.mesh.fsdp={config.mesh.fsdp} and "
        f"config.mesh.tensor={config.mesh.tensor} to 1, or use parallel.mode='jit'",
    )
