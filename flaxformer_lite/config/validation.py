"""Checks of config values that contradict one another."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any

from flaxformer_lite.config.dataclasses import Config, DataConfig, DecodeConfig, OptimConfig
from flaxformer_lite.config.model_dataclasses import ModelConfig, StackConfig
from flaxformer_lite.config.value_types import LIST_OPTIONS_KEYS, OPTIONS_KEYS, is_import_path
from flaxformer_lite.errors import InputError, require


def check(config: Config) -> None:
    """Raises ``InputError`` for the first value that contradicts another."""
    _check_options(config)
    _check_data(config.data)
    _check_objective(config)
    _check_model(config.model, config.data.share_vocabulary)
    _check_training(config)
    _check_optim(config.optim, config.train.steps)
    _check_decoding(config.decode)
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
    has_validation = data.task in ("cmudict", "reverse") or (data.task == "text" and any(data.text.validation))
    require(
        data.validation_fraction == 0 or not has_validation,
        f"config.data.validation_fraction={data.validation_fraction}",
        f"config.data.task={data.task!r} has a validation split",
        "set it to 0",
    )
    require(
        data.reverse.min_length <= data.reverse.max_length,
        f"config.data.reverse.min_length={data.reverse.min_length}",
        f"must be at most config.data.reverse.max_length={data.reverse.max_length}",
    )


def _check_objective(config: Config) -> None:
    """Checks self-supervised objectives, packing and windows."""
    data = config.data
    is_supervised = data.objective == "supervised"
    subject = f"config.data.objective={data.objective!r}"
    if not is_supervised:
        remedy = "set config.data.share_vocabulary=True"
        require(data.share_vocabulary, subject, "source and target have the same tokens", remedy)
        reason = f"there are no references for config.eval.metrics={config.eval.metrics}"
        require(
            not config.eval.metrics, subject, reason, "set config.eval.metrics=() and config.eval.best_metric='loss'"
        )
    for key in ("source_subword_sampling", "target_subword_sampling"):
        reason = f"{subject} makes pairs of texts that are tokenized once"
        require(is_supervised or not getattr(data, key), f"config.data.{key}={getattr(data, key)}", reason, "use 0")
    require(
        data.overlength != "split" or not is_supervised,
        "config.data.overlength='split'",
        f"{subject} cannot be trained on parts of sources and targets",
        "use 'drop' or 'truncate'",
    )
    rnn = [key for key, stack in vars(config.model).items() if isinstance(stack, StackConfig) and stack.kind == "rnn"]
    require(
        not data.pack or not rnn,
        "config.data.pack=True",
        f"an RNN (config.model.{'/'.join(rnn)}.kind) would carry its state from one example of a row into the next",
        "set it to False; buckets, and config.train.tokens_per_batch, reduce padding too",
    )


def _check_model(model: ModelConfig, shared_vocabulary: bool) -> None:
    encoder, decoder = model.encoder, model.decoder
    if model.share_embeddings in ("all", "inputs"):
        subject = f"config.model.share_embeddings={model.share_embeddings!r}"
        reason = "one embedding table cannot serve two vocabularies"
        require(shared_vocabulary, subject, reason, "set config.data.share_vocabulary=True")
        dims = encoder.embedding_dim, decoder.embedding_dim
        reason = f"source and target embeddings have different widths, {dims[0]} and {dims[1]}"
        require(
            dims[0] == dims[1], subject, reason, "make the widths of both stacks, or their rnn.embedding_dim, equal"
        )
    require(
        not model.scan_layers or "transformer" in (encoder.kind, decoder.kind),
        "config.model.scan_layers=True",
        f"only the layers of a Transformer can be scanned, but config.model.encoder.kind={encoder.kind!r} and "
        f"config.model.decoder.kind={decoder.kind!r}",
    )
    for key, stack in (("config.model.encoder", encoder), ("config.model.decoder", decoder)):
        if stack.kind == "transformer":
            _check_transformer(key, stack)
        elif stack.kind == "rnn":
            subject, reason = f"{key}.rnn.residual_from=1", "input and output of the lowest layer have different widths"
            require(stack.rnn.residual_from != 1, subject, reason, "use 2 or more")
    if decoder.kind == "rnn":
        _check_rnn_decoder(encoder, decoder, model.share_embeddings)


def _check_transformer(key: str, stack: StackConfig) -> None:
    """Checks one stack; ``key`` is its dotted key."""
    width, heads, norm, attention = stack.width, stack.num_heads, stack.norm, stack.attention
    reason, remedy = f"must divide {key}.width={width}", f"or set {key}.head_dim"
    require(stack.head_dim > 0 or width % heads == 0, f"{key}.num_heads={heads}", reason, remedy)
    subject = f"{key}.num_kv_heads={stack.num_kv_heads}"
    require(heads % stack.kv_heads == 0, subject, f"must divide {key}.num_heads={heads}")
    _check_positions(key, stack)
    subject, reason = f"{key}.norm.unit_offset=True", f"belongs to norm.kind='rms', not to {norm.kind!r}"
    require(not norm.unit_offset or norm.kind == "rms", subject, reason)
    subject, reason = f"{key}.attention.layer_pattern=()", "must have at least one layer, such as ('global',)"
    require(bool(attention.layer_pattern), subject, reason)
    require(
        ("local" in attention.layer_pattern) == (attention.sliding_window > 0),
        f"{key}.attention.sliding_window={attention.sliding_window}",
        f"'local' layers need a window, and only they have one, got layer_pattern={attention.layer_pattern}",
        "set both or neither",
    )


def _check_positions(key: str, stack: StackConfig) -> None:
    """Checks the positions of a Transformer stack; ``key`` is its dotted key."""
    width, positions, kind = stack.width, stack.positions, f"{key}.positions.kind={stack.positions.kind!r}"
    is_even = not positions.kind.startswith("sinusoidal") or width % 2 == 0
    require(is_even, f"{key}.width={width}", f"must be even for {kind}")
    is_wide = positions.kind != "sinusoidal_fairseq" or width > 2
    require(is_wide, f"{key}.width={width}", f"must be above 2 for {kind}")
    is_even = positions.kind != "rotary" or stack.head_size % 2 == 0
    subject = f"{key}.head_dim={stack.head_size}" + ("" if stack.head_dim else " (width / num_heads)")
    require(is_even, subject, f"must be even for {kind}")
    has_tables = not positions.per_layer or positions.kind == "relative_bias"
    subject, reason = f"{key}.positions.per_layer=True", f"belongs to positions.kind='relative_bias', not to {kind}"
    require(has_tables, subject, reason)
    require(
        positions.max_distance > positions.num_buckets // 2,
        f"{key}.positions.max_distance={positions.max_distance}",
        f"must be above half of {key}.positions.num_buckets={positions.num_buckets}, because each distance below that "
        f"has a bucket of its own",
    )


def _check_rnn_decoder(encoder: StackConfig, decoder: StackConfig, share_embeddings: str) -> None:
    key, rnn, attends = "config.model.decoder.rnn", decoder.rnn, decoder.rnn.design in ("bahdanau", "luong")
    require(
        share_embeddings in ("inputs", "none") or decoder.embedding_dim == decoder.readout_dim,
        f"config.model.share_embeddings={share_embeddings!r}",
        f"outputs of width {key}.readout_dim={decoder.readout_dim} are compared with embeddings of width "
        f"{key}.embedding_dim={decoder.embedding_dim}",
        "make them equal or set share_embeddings='none'",
    )
    require(
        rnn.design != "sutskever" or decoder.readout_dim == decoder.width,
        f"{key}.readout_dim={rnn.readout_dim}",
        f"{key}.design='sutskever' has no readout, its output is the top layer's state of width {decoder.width}",
        "set it to 0",
    )
    require(
        not rnn.input_feeding or rnn.design == "luong",
        f"{key}.input_feeding=True",
        f"feeds back the output of attention after a step, which {key}.design={rnn.design!r} does not have",
        "use design='luong'",
    )
    require(
        not attends or rnn.attention != "dot" or encoder.output_dim == decoder.width,
        f"{key}.attention='dot'",
        f"multiplies states of the decoder, of width {decoder.width}, with those of the encoder, of width "
        f"{encoder.output_dim} (both directions together)",
        "use attention='general'",
    )
    states = [(stack.num_layers, stack.width, stack.rnn.cell) for stack in (encoder, decoder)]
    require(
        rnn.bridge != "copy" or (encoder.kind == "rnn" and encoder.rnn.direction != "both" and states[0] == states[1]),
        f"{key}.bridge='copy'",
        f"needs a recurrent encoder of one direction with the num_layers, width and rnn.cell of the decoder, got "
        f"config.model.encoder.kind={encoder.kind!r}, rnn.direction={encoder.rnn.direction!r}, {states[0]} and "
        f"{states[1]}",
        "bridge='dense' takes any encoder",
    )


def _check_training(config: Config) -> None:
    train = config.train
    require(
        train.r_drop == 0 or config.model.encoder.dropout > 0 or config.model.decoder.dropout > 0,
        f"config.train.r_drop={train.r_drop}",
        "compares two passes with different dropout masks",
        "set config.model.encoder.dropout above 0",
    )
    require(
        config.eval.best_metric in ("loss", "token_accuracy", *config.eval.metrics),
        f"config.eval.best_metric={config.eval.best_metric!r}",
        "is not computed",
        f"add it to config.eval.metrics={config.eval.metrics}",
    )

    columns = config.data.text.meta_columns if config.data.task == "text" else ()
    require(
        config.eval.group_by in ("", *columns) or is_import_path(config.data.task),
        f"config.eval.group_by={config.eval.group_by!r}",
        f"must be one of config.data.text.meta_columns={config.data.text.meta_columns}, with config.data.task='text', "
        f"got config.data.task={config.data.task!r}",
    )


def _check_optim(optim: OptimConfig, steps: int) -> None:
    warmup, decay = (f"config.optim.{key}={getattr(optim, key)}" for key in ("warmup_steps", "decay_steps"))
    require(
        optim.schedule not in ("cosine", "linear") or optim.warmup_steps < steps,
        warmup,
        f"must be below config.train.steps={steps}, or the learning rate never falls",
        "lower it, or make more steps",
    )
    require(
        optim.schedule == "wsd" or optim.decay_steps == 0,
        decay,
        f"belongs to config.optim.schedule='wsd', not to {optim.schedule!r}",
    )
    require(
        optim.schedule != "wsd" or 0 < optim.decay_steps <= steps - optim.warmup_steps,
        decay,
        f"must be at least 1 for config.optim.schedule='wsd' and, with {warmup}, at most config.train.steps={steps}",
    )
    weight_decay = f"config.optim.weight_decay={optim.weight_decay}"
    has_weight_decay = optim.weight_decay == 0 or optim.optimizer != "adam"
    require(has_weight_decay, weight_decay, "config.optim.optimizer='adam' has none", "use 'adamw'")
    has_effect = optim.weight_decay > 0 or not optim.no_decay
    require(
        has_effect,
        f"config.optim.no_decay={optim.no_decay}",
        "has no effect without config.optim.weight_decay, which is 0",
    )
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


def _check_decoding(decode: DecodeConfig) -> None:
    most = {"greedy": 1, "beam": decode.beam_size}.get(decode.method, decode.num_samples)
    require(
        decode.n_best <= most or is_import_path(decode.method),
        f"config.decode.n_best={decode.n_best}",
        f"greedy search gives one hypothesis, beam search beam_size={decode.beam_size}, sampling "
        f"num_samples={decode.num_samples}; method={decode.method!r}",
    )
    require(
        decode.beam_size % decode.num_beam_groups == 0,
        f"config.decode.num_beam_groups={decode.num_beam_groups}",
        f"must divide beam_size={decode.beam_size}",
    )
    require(
        decode.early_stopping == "false" or decode.beam_variant == "hf",
        f"config.decode.early_stopping={decode.early_stopping!r}",
        f"belongs to beam_variant='hf', not to {decode.beam_variant!r}",
    )


def _check_devices(config: Config) -> None:
    sizes = dataclasses.astuple(config.mesh)
    require(
        all(size == -1 or size > 0 for size in sizes) and sizes.count(-1) <= 1,
        f"config.mesh={sizes}",
        "sizes must be positive, and at most one -1 (all remaining devices)",
    )
    require(
        config.parallel.mode == "jit" or (config.mesh.fsdp == 1 and config.mesh.tensor == 1),
        "config.parallel.mode='pmap'",
        f"supports data parallelism only, but config.mesh.fsdp={config.mesh.fsdp} and "
        f"config.mesh.tensor={config.mesh.tensor}",
        "set both to 1, or use parallel.mode='jit'",
    )
