"""Checks of config values that contradict one another."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any

from flaxformer_lite.config.dataclasses import Config, DataConfig
from flaxformer_lite.config.mixture import components
from flaxformer_lite.config.model_dataclasses import StackConfig
from flaxformer_lite.config.value_types import LIST_OPTIONS_KEYS, OPTIONS_KEYS, is_import_path
from flaxformer_lite.errors import InputError, require


def check(config: Config) -> None:
    """Raises ``InputError`` for the first value that contradicts another."""
    _check_options(config)
    _check_data(config.data)
    _check_tasks(config)
    _check_model(config)
    _check_training(config)
    _check_optim(config)
    _check_decoding(config)
    _check_devices(config)


def refuse_float16(values: Mapping[str, Any]) -> None:
    """Raises ``InputError`` with the reason where nested plain values, not yet checked, ask for float16."""
    stacks = [_group(_group(values, "model"), side) for side in ("encoder", "decoder")]
    if any(_group(stack, "norm").get("kind") == "rms" for stack in stacks):
        reason = "with norm.kind='rms', as in T5, activations of large models exceed 65504, its largest number"
    else:
        reason = "small gradients would become 0, and there is no loss scaling to prevent it"
    for key, dtype in _group(values, "precision").items():
        remedy = "use 'bfloat16', which has the range of float32"
        require(dtype != "float16", f"config.precision.{key}='float16'", f"is not supported: {reason}", remedy)


def _group(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The group of keys that has this name; none where there is none."""
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _check_options(config: Config) -> None:
    """Refuses options that no import path has: a kind that is implemented here has keys of its own."""
    for key, options_key in OPTIONS_KEYS.items():
        kind, options = _get(config, key), _get(config, options_key)
        if key == "data.objective" and kind != "supervised":
            continue  # its classes have options whether they are of this package or not
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
    saved = data.source_vocabulary.kind == data.target_vocabulary.kind == "saved"  # their files are compared later
    require(
        not data.share_vocabulary or data.source_vocabulary == data.target_vocabulary or saved,
        "config.data.share_vocabulary=True",
        "config.data.source_vocabulary and config.data.target_vocabulary must be the same, got "
        f"{data.source_vocabulary} and {data.target_vocabulary}",
    )
    require(
        data.reverse.min_length <= data.reverse.max_length,
        f"config.data.reverse.min_length={data.reverse.min_length}",
        f"must be at most config.data.reverse.max_length={data.reverse.max_length}",
    )


def _check_tasks(config: Config) -> None:
    """Checks the task of ``config.data``, or those of its mixture, and their packing."""
    data, metrics = config.data, config.eval.metrics
    tasks = components(data)
    for name, task in tasks.items():
        reason = "must be a name without a slash, because metrics are named NAME/METRIC"
        require(not data.mixture or (bool(name) and "/" not in name), f"config.data.mixture.{name}", reason)
        _check_task(task.data, f"config.data.mixture.{name}" if name else "config.data", data.share_vocabulary)
    supervised = [name for name, task in tasks.items() if task.data.objective == "supervised"]
    require(
        not metrics or bool(supervised),
        f"config.eval.metrics={metrics}",
        f"there are no references for config.data.objective={data.objective!r}",
        "set config.eval.metrics=() and config.eval.best_metric='loss'",
    )
    computed = ("loss", "token_accuracy", *metrics)
    require(
        config.eval.best_metric in (*computed, *(f"{name}/{metric}" for name in data.mixture for metric in computed)),
        f"config.eval.best_metric={config.eval.best_metric!r}",
        "is not computed",
        f"add it to config.eval.metrics={metrics}",
    )
    columns = {name for task in tasks.values() if task.data.task == "text" for name in task.data.text.meta_columns}
    is_custom = any(is_import_path(task.data.task) for task in tasks.values())
    require(
        config.eval.group_by in ("", *columns) or is_custom,
        f"config.eval.group_by={config.eval.group_by!r}",
        f"must be one of config.data.text.meta_columns={data.text.meta_columns}, with config.data.task='text', got "
        f"config.data.task={data.task!r}",
    )
    rnn = [key for key, stack in vars(config.model).items() if isinstance(stack, StackConfig) and stack.kind == "rnn"]
    require(
        not data.pack or not rnn,
        "config.data.pack=True",
        f"an RNN (config.model.{'/'.join(rnn)}.kind) would carry its state from one example of a row into the next",
        "set it to False; buckets, and config.train.tokens_per_batch, reduce padding too",
    )


def _check_task(data: DataConfig, key: str, share_vocabulary: bool) -> None:
    """Checks one task; ``key`` is the dotted key of its group."""
    is_supervised = data.objective == "supervised"
    subject = f"{key}.objective={data.objective!r}"
    remedy = "set config.data.share_vocabulary=True"
    require(is_supervised or share_vocabulary, subject, "source and target have the same tokens", remedy)
    require(
        data.overlength != "split" or not is_supervised,
        f"{key}.overlength='split'",
        f"{subject} cannot be trained on parts of sources and targets",
        "use 'drop' or 'truncate'",
    )
    for name in ("source_subword_sampling", "target_subword_sampling"):
        reason = f"{subject} makes pairs of texts that are tokenized once"
        require(is_supervised or not getattr(data, name), f"{key}.{name}={getattr(data, name)}", reason, "use 0")
    has_validation = data.task in ("cmudict", "reverse") or (data.task == "text" and any(data.text.validation))
    require(
        data.validation_fraction == 0 or not has_validation,
        f"{key}.validation_fraction={data.validation_fraction}",
        f"{key}.task={data.task!r} has a validation split",
        "set it to 0",
    )


def _require(config: Config, condition: bool, key: str, reason: str, remedy: str = "") -> None:
    """Raises ``InputError`` about a dotted key, which the message has with its value, unless the condition holds."""
    require(condition, f"config.{key}={_get(config, key)!r}", reason, remedy)


def _check_model(config: Config) -> None:
    model, ensure = config.model, functools.partial(_require, config)
    encoder, decoder = model.encoder, model.decoder
    if model.share_embeddings in ("all", "inputs"):
        reason, remedy = "one embedding table cannot serve two vocabularies", "set config.data.share_vocabulary=True"
        ensure(config.data.share_vocabulary, "model.share_embeddings", reason, remedy)
        dims = encoder.embedding_dim, decoder.embedding_dim
        reason = f"source and target embeddings have different widths, {dims[0]} and {dims[1]}"
        remedy = "make the widths of both stacks, or their rnn.embedding_dim, equal"
        ensure(dims[0] == dims[1], "model.share_embeddings", reason, remedy)
    ensure(
        not model.scan_layers or "transformer" in (encoder.kind, decoder.kind),
        "model.scan_layers",
        f"only the layers of a Transformer can be scanned, but config.model.encoder.kind={encoder.kind!r} and "
        f"config.model.decoder.kind={decoder.kind!r}",
    )
    for key, stack in (("model.encoder", encoder), ("model.decoder", decoder)):
        if stack.kind == "transformer":
            _check_transformer(config, key, stack)
        elif stack.kind == "rnn":
            reason = "input and output of the lowest layer have different widths"
            ensure(stack.rnn.residual_from != 1, f"{key}.rnn.residual_from", reason, "use 2 or more")
    if decoder.kind == "rnn":
        _check_rnn_decoder(config)


def _check_transformer(config: Config, key: str, stack: StackConfig) -> None:
    """Checks one stack; ``key`` is its dotted key."""
    ensure, heads, norm, attention = functools.partial(_require, config), stack.num_heads, stack.norm, stack.attention
    reason, remedy = f"must divide config.{key}.width={stack.width}", f"or set config.{key}.head_dim"
    ensure(stack.head_dim > 0 or stack.width % heads == 0, f"{key}.num_heads", reason, remedy)
    ensure(heads % stack.kv_heads == 0, f"{key}.num_kv_heads", f"must divide config.{key}.num_heads={heads}")
    _check_positions(config, key, stack)
    reason = f"belongs to norm.kind='rms', not to {norm.kind!r}"
    ensure(not norm.unit_offset or norm.kind == "rms", f"{key}.norm.unit_offset", reason)
    reason = "must have at least one layer, such as ('global',)"
    ensure(bool(attention.layer_pattern), f"{key}.attention.layer_pattern", reason)
    reason = f"'local' layers need a window, and only they have one, got layer_pattern={attention.layer_pattern}"
    consistent = ("local" in attention.layer_pattern) == (attention.sliding_window > 0)
    ensure(consistent, f"{key}.attention.sliding_window", reason, "set both or neither")


def _check_positions(config: Config, key: str, stack: StackConfig) -> None:
    """Checks the positions of a Transformer stack; ``key`` is its dotted key."""
    ensure, width, positions = functools.partial(_require, config), stack.width, stack.positions
    kind = f"config.{key}.positions.kind={positions.kind!r}"
    is_even = not positions.kind.startswith("sinusoidal") or width % 2 == 0
    ensure(is_even, f"{key}.width", f"must be even for {kind}")
    ensure(positions.kind != "sinusoidal_fairseq" or width > 2, f"{key}.width", f"must be above 2 for {kind}")
    is_even = positions.kind != "rotary" or stack.head_size % 2 == 0
    subject = f"config.{key}.head_dim={stack.head_size}" + ("" if stack.head_dim else " (width / num_heads)")
    require(is_even, subject, f"must be even for {kind}")
    has_tables = not positions.per_layer or positions.kind == "relative_bias"
    ensure(has_tables, f"{key}.positions.per_layer", f"belongs to positions.kind='relative_bias', not to {kind}")
    ensure(
        positions.max_distance > positions.num_buckets // 2,
        f"{key}.positions.max_distance",
        f"must be above half of config.{key}.positions.num_buckets={positions.num_buckets}, because each distance "
        "below that has a bucket of its own",
    )


def _check_rnn_decoder(config: Config) -> None:
    ensure, encoder, decoder = functools.partial(_require, config), config.model.encoder, config.model.decoder
    key, rnn = "model.decoder.rnn", decoder.rnn
    ensure(
        config.model.share_embeddings in ("inputs", "none") or decoder.embedding_dim == decoder.readout_dim,
        "model.share_embeddings",
        f"outputs of width config.{key}.readout_dim={decoder.readout_dim} are compared with embeddings of width "
        f"config.{key}.embedding_dim={decoder.embedding_dim}",
        "make them equal or set share_embeddings='none'",
    )
    ensure(
        rnn.design != "sutskever" or decoder.readout_dim == decoder.width,
        f"{key}.readout_dim",
        f"config.{key}.design='sutskever' has no readout, its output is the top layer's state of width {decoder.width}",
        "set it to 0",
    )
    reason = f"feeds back the output of attention after a step, which config.{key}.design={rnn.design!r} does not have"
    ensure(not rnn.input_feeding or rnn.design == "luong", f"{key}.input_feeding", reason, "use design='luong'")
    attends = rnn.design in ("bahdanau", "luong")
    ensure(
        not attends or rnn.attention != "dot" or encoder.output_dim == decoder.width,
        f"{key}.attention",
        f"multiplies states of the decoder, of width {decoder.width}, with those of the encoder, of width "
        f"{encoder.output_dim} (both directions together)",
        "use attention='general'",
    )
    states = [(stack.num_layers, stack.width, stack.rnn.cell) for stack in (encoder, decoder)]
    ensure(
        rnn.bridge != "copy" or (encoder.kind == "rnn" and encoder.rnn.direction != "both" and states[0] == states[1]),
        f"{key}.bridge",
        f"needs a recurrent encoder of one direction with the num_layers, width and rnn.cell of the decoder, got "
        f"config.model.encoder.kind={encoder.kind!r}, rnn.direction={encoder.rnn.direction!r}, {states[0]} and "
        f"{states[1]}",
        "bridge='dense' takes any encoder",
    )


def _check_training(config: Config) -> None:
    ensure = functools.partial(_require, config)
    has_dropout = config.model.encoder.dropout > 0 or config.model.decoder.dropout > 0
    reason, remedy = "compares two passes with different dropout masks", "set config.model.encoder.dropout above 0"
    ensure(config.train.r_drop == 0 or has_dropout, "train.r_drop", reason, remedy)


def _check_optim(config: Config) -> None:
    ensure, optim, steps = functools.partial(_require, config), config.optim, config.train.steps
    reason = f"must be below config.train.steps={steps}, or the learning rate never falls"
    falls = optim.schedule not in ("cosine", "linear") or optim.warmup_steps < steps
    ensure(falls, "optim.warmup_steps", reason, "lower it, or make more steps")
    reason = f"belongs to config.optim.schedule='wsd', not to {optim.schedule!r}"
    ensure(optim.schedule == "wsd" or optim.decay_steps == 0, "optim.decay_steps", reason)
    ensure(
        optim.schedule != "wsd" or 0 < optim.decay_steps <= steps - optim.warmup_steps,
        "optim.decay_steps",
        "must be at least 1 for config.optim.schedule='wsd' and, with "
        f"config.optim.warmup_steps={optim.warmup_steps}, at most config.train.steps={steps}",
    )
    has_weight_decay = optim.weight_decay == 0 or optim.optimizer != "adam"
    ensure(has_weight_decay, "optim.weight_decay", "config.optim.optimizer='adam' has none", "use 'adamw'")
    has_effect = optim.weight_decay > 0 or not optim.no_decay
    ensure(has_effect, "optim.no_decay", "has no effect without config.optim.weight_decay, which is 0")
    for rule in optim.lr_multipliers:
        require(
            _is_positive(rule.rpartition("=")[2]),
            f"config.optim.lr_multipliers: {rule!r}",
            "must be a pattern, '=' and a factor above 0, as in 'encoder/=0.1'",
            "use config.optim.frozen for parameters that stay as they are",
        )
    multiplied = [rule.rpartition("=")[0] for rule in optim.lr_multipliers]
    for key, patterns in {"no_decay": optim.no_decay, "lr_multipliers": multiplied, "frozen": optim.frozen}.items():
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise InputError(f"config.optim.{key}: {pattern!r}", f"is no regular expression: {error}") from error


def _is_positive(number: str) -> bool:
    try:
        return 0 < float(number) < math.inf
    except ValueError:
        return False


def _check_decoding(config: Config) -> None:
    ensure, decode = functools.partial(_require, config), config.decode
    most = {"greedy": 1, "beam": decode.beam_size}.get(decode.method, decode.num_samples)
    ensure(
        decode.n_best <= most or is_import_path(decode.method),
        "decode.n_best",
        f"greedy search gives one hypothesis, beam search beam_size={decode.beam_size}, sampling "
        f"num_samples={decode.num_samples}; method={decode.method!r}",
    )
    divides = decode.beam_size % decode.num_beam_groups == 0
    ensure(divides, "decode.num_beam_groups", f"must divide beam_size={decode.beam_size}")
    reason = f"belongs to beam_variant='hf', not to {decode.beam_variant!r}"
    ensure(decode.early_stopping == "false" or decode.beam_variant == "hf", "decode.early_stopping", reason)


def _check_devices(config: Config) -> None:
    mesh, sizes = config.mesh, dataclasses.astuple(config.mesh)
    reason = "sizes must be positive, and at most one -1 (all remaining devices)"
    valid = all(size == -1 or size > 0 for size in sizes) and sizes.count(-1) <= 1
    require(valid, f"config.mesh={sizes}", reason)
    reason = f"supports data parallelism only, but config.mesh.fsdp={mesh.fsdp} and config.mesh.tensor={mesh.tensor}"
    is_data_parallel = config.parallel.mode == "jit" or (mesh.fsdp == 1 and mesh.tensor == 1)
    _require(config, is_data_parallel, "parallel.mode", reason, "set both to 1, or use parallel.mode='jit'")
