"""Migrations of saved configs: a config.json of any earlier version is read with today's keys.

A change of keys adds 1 to ``VERSION`` and a function to ``_STEPS``; a new key gets the value that preserves behavior.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flaxformer_lite.errors import InputError, require

VERSION = 2

_RENAMED_0 = {  # keys of version 0 (flaxformer-lite 0.1.0) → keys of version 1
    "data.overlong": "data.overlength",
    "data.buckets": "data.num_buckets",
    "optim.rates": "optim.lr_multipliers",
    "train.accumulate": "train.grad_accum_steps",
    "train.max_skipped": "train.max_nonfinite_steps",
    "eval.samples": "eval.num_samples",
    "decode.convention": "decode.beam_variant",
    "decode.beam_groups": "decode.num_beam_groups",
    "decode.samples": "decode.num_samples",
    "decode.no_repeat_ngram": "decode.no_repeat_ngram_size",
    "decode.forbidden": "decode.suppress_tokens",
    "decode.renormalise": "decode.renormalize_logits",
    "decode.force_opening": "decode.forced_bos",
    "decode.force_end": "decode.forced_eos",
    "rules": "logical_axis_rules",
    "logical_axis_rules.head_width": "logical_axis_rules.head_dim",
    "precision.weights": "precision.param_dtype",
    "precision.compute": "precision.dtype",
    "precision.moments": "precision.moment_dtype",
}
_ADDED_1: dict[str, Any] = {
    "data.options": {},
    "data.validation_fraction": 0.0,
    "data.source_vocabulary.options": {},
    "data.target_vocabulary.options": {},
    "optim.options": {},
    "optim.schedule_options": {},
    "train.loss_terms": (),
    "train.loss_options": {},
    "eval.metric_options": {},
    "decode.options": {},
    "decode.logits_processors": (),
    "decode.logits_processor_options": {},
}
_ADDED_2: dict[str, Any] = {
    "data.mixture": {},
    "data.mixture_temperature": 0.0,
    "data.source_prefix": "",
    "data.preprocess": "none",
    "data.preprocess_options": {},
    "data.objective": "supervised",
    "data.objective_options": {},
    "data.window_overlap": 0,
    "data.split_at_sentences": False,
    "data.pack": False,
    "data.packed_length": 256,
    "train.tokens_per_batch": 0,
    "train.rows_multiple": 8,
    **{
        f"data.{side}_vocabulary.{key}": value
        for side in ("source", "target")
        for key, value in {
            **{"model_type": "unigram", "sample_size": 2_000_000, "tag_pattern": "", "tag_separator": ";"},
            **{"special_tokens": (), "num_sentinels": 0},
        }.items()
    },
    "data.source_subword_sampling": 0.0,
    "data.target_subword_sampling": 0.0,
    "data.text.format": "auto",
    "data.text.source_columns": (),
    "data.text.target_columns": (),
    "data.text.meta_columns": (),
    "data.text.column_separator": " ",
    "data.text.header": False,
    "data.text.group_references": True,  # lines of a TSV with equal sources were always merged
    "data.hf": {"name_or_path": "", "config_name": "", "source_field": "", "target_field": ""},
    "data.on_bad_row": "keep_empty",  # empty lines were examples
    "eval.group_by": "",
}

_POSITIONS = {
    "halves": "sinusoidal_concat",
    "fairseq": "sinusoidal_fairseq",
    "relative": "relative_bias",
    "relative_per_layer": "relative_bias",
}
_PLACEMENTS = {"before": "pre", "after": "post", "around": "sandwich"}
_UNREAD_BY_ENCODERS = {  # the defaults, which run cards leave as they are
    **{"design": "bahdanau", "attention": "additive", "input_feeding": False, "bridge": "dense"},
    **{"attention_dim": 0, "readout_dim": 0},
}
_SIZES = {  # new key: old keys of the encoder and of the decoder
    "width": ("width", "decoder_width"),
    "num_layers": ("num_layers", "num_decoder_layers"),
    "num_heads": ("num_heads", "num_decoder_heads"),
    "num_kv_heads": ("num_key_heads", "num_decoder_key_heads"),
    "head_dim": ("head_width", "decoder_head_width"),
    "mlp_dim": ("mlp_width", "decoder_mlp_width"),
}


def with_version(values: Mapping[str, Any]) -> dict[str, Any]:
    """The content of config.json for the nested values of a config."""
    return {"version": VERSION, **values}


def read_config(path: Path) -> dict[str, Any]:
    """The nested plain values, with today's keys and not yet checked, of the config.json of a work directory.

    Raises:
      InputError: the file cannot be read, or holds no config that can be migrated.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(str(path), "there is no such file", "is it the work directory of a run?") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(str(path), f"cannot be read ({error})", "restore it from a copy") from error
    require(isinstance(values, dict), str(path), "holds no JSON object", "restore it from a copy")
    if "model_type" in values:
        remedy = "import it into a work directory first (flaxformer-lite import)"
        raise InputError(str(path), "belongs to a published model", remedy)
    try:
        return migrate(values)
    except InputError as error:
        raise InputError(f"{path}, {error.subject}", error.reason, error.remedy) from error


def migrate(values: Mapping[str, Any]) -> dict[str, Any]:
    """Upgrades the content of a config.json to today's keys, without ``version``.

    Values without a version are those of flaxformer-lite 0.1.0, which wrote none.

    Raises:
      InputError: a key that is renamed is missing, or the version is a later one.
    """
    version = values.get("version", 0)
    whole = isinstance(version, int) and not isinstance(version, bool) and version >= 0
    require(whole, f"version={version!r}", "must be a whole number", "restore the file from a copy")
    require(
        version <= VERSION,
        f"version={version}",
        f"was written by a later flaxformer-lite; this one reads versions up to {VERSION}",
        "update flaxformer-lite",
    )
    migrated = _copy({key: value for key, value in values.items() if key != "version"})
    for step in _STEPS[version:]:
        try:
            step(migrated)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            reason = f"is no config of version {version}: {type(error).__name__}: {error}"
            raise InputError("config", reason, "restore the file from a copy") from error
    return migrated


def _from_0_1_0(values: dict[str, Any]) -> None:
    seeds = values["train"].pop("vmap_seeds")
    if seeds != 1:
        first, last = values["seed"], values["seed"] + seeds - 1
        reason = f"holds the runs of {seeds} seeds, each in a directory of its own"
        raise InputError(f"config.train.vmap_seeds={seeds}", reason, f"name one of seed_{first} … seed_{last} in it")
    for old, new in _RENAMED_0.items():
        _set(values, new, _pop(values, old))
    _add(values, _ADDED_1)
    values["model"] = _two_stacks(values["model"])


def _to_2(values: dict[str, Any]) -> None:
    _add(values, _ADDED_2)
    for side in ("source", "target"):
        if (vocabulary := values["data"][f"{side}_vocabulary"])["kind"] == "sentencepiece":
            vocabulary["sample_size"] = 0  # it was trained on all lines


def _add(values: dict[str, Any], added: Mapping[str, Any]) -> None:
    for key, value in added.items():
        _set(values, key, _copy(value))


def _two_stacks(old: Mapping[str, Any]) -> dict[str, Any]:
    """Migrates a resolved ``model`` group of version 0.1.0, which declared most keys once and six sizes twice.

    Every value is written to both stacks, since a resolved config has no references. ``num_kv_heads`` becomes 0 (as
    many as ``num_heads``) where the two were equal, so that the result equals what today's run cards resolve to;
    ``head_dim`` keeps its value, 0 included. All else is renamed; the model that is built, its parameters and its
    random streams stay the same.
    """
    return {
        "encoder": _stack(old, 0),
        "decoder": _stack(old, 1),
        "share_embeddings": old["share_embeddings"],
        "scale_embeddings": old["embeddings"]["scale"],
        "vocab_pad_multiple": old["embeddings"]["multiple"],
        "lm_head": _renamed(old["output"], {"softcap": "soft_cap"}),
        "init": "normal_0.02" if old["init"] == "small" else old["init"],
        "remat": old["remat"],
        "scan_layers": old["scan_layers"],
    }


def _stack(old: Mapping[str, Any], side: int) -> dict[str, Any]:
    sizes = {key: names[side] for key, names in _SIZES.items()}
    stack = {"kind": old[("encoder", "decoder")[side]], "options": {}, **{new: old[key] for new, key in sizes.items()}}
    stack["num_kv_heads"] = 0 if stack["num_kv_heads"] == stack["num_heads"] else stack["num_kv_heads"]
    attention = {"query_scalar": "query_pre_attn_scalar", "softcap": "soft_cap", "window": "sliding_window"}
    widths = {f"{name}_width": f"{name}_dim" for name in ("embedding", "attention", "readout")}
    return stack | {
        "dropout": old["dropout"],
        "final_dropout": old["final_dropout"],
        "layerdrop": old["layer_dropout"],
        "positions": {
            "kind": _POSITIONS.get(old["positions"], old["positions"]),
            "per_layer": old["positions"] == "relative_per_layer",
            **_renamed(old["position_details"], {"longest": "max_length", "buckets": "num_buckets"}),
        },
        "norm": {
            "placement": _PLACEMENTS[old["norm"]],
            "unit_offset": old["norms"]["kind"] == "rms_from_one",
            **old["norms"],
            "kind": "layer" if old["norms"]["kind"] == "layer" else "rms",
            "final": "unless_post" if old["norms"]["final"] == "unless_after" else old["norms"]["final"],
        },
        "attention": {
            **_renamed({key: value for key, value in old["attention"].items() if key != "pattern"}, attention),
            "layer_pattern": [{"full": "global", "window": "local"}[layer] for layer in old["attention"]["pattern"]],
        },
        "feed_forward": dict(old["feed_forward"]),
        "rnn": _renamed(old["rnn"], widths) | ({} if side else _UNREAD_BY_ENCODERS),
    }


def _renamed(group: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in group.items()}


def _group_of(values: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    *groups, name = key.split(".")
    return functools.reduce(operator.getitem, groups, values), name


def _pop(values: dict[str, Any], key: str) -> Any:
    group, name = _group_of(values, key)
    return group.pop(name)


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    group, name = _group_of(values, key)
    group[name] = value


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value


_STEPS = (_from_0_1_0, _to_2)  # step i upgrades version i to version i + 1
