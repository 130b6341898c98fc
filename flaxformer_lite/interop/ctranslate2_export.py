"""Export of a trained model to CTranslate2 (Klein et al. 2020): its ``model.bin``, config.json and vocabularies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.inference.search_from_config import forbidden_ids
from flaxformer_lite.interop.exporting import TrainedModel
from flaxformer_lite.models import waves
from flaxformer_lite.models.attention import NEVER
from flaxformer_lite.models.halves import Half, decoder_half, encoder_half

_NUM_POSITIONS = 2048  # rows of the table of sinusoidal positions where the config sets no maximum length
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "encoder": ("transformer",),
    "decoder": ("transformer",),
    "norm": ("before", "after"),
    "norms.kind": ("layer", "rms"),
    "norms.final": ("unless_after",),
    "positions": ("sinusoidal", "halves", "fairseq", "learned", "relative", "relative_per_layer"),
    "attention.softcap": (0.0,),
    "attention.window": (0,),
    "output.softcap": (0.0,),
}


def write_ctranslate2(trained: TrainedModel, target: Path) -> None:
    """Writes the model for ``ctranslate2.Translator`` into an existing directory.

    Raises:
      InputError: the package is not installed, or does not support a part of this model.
    """
    specs = _import_specs()
    model = trained.config.model
    _check_supported(model)
    activations = specs.common_spec.Activation
    shared = {
        "pre_norm": model.norm == "before",
        "activation": {
            "relu": activations.RELU,
            "gelu": activations.GELU,
            "gelu_tanh": activations.GELUTanh,
            "silu": activations.SWISH,
        }[model.feed_forward.activation],
        "layernorm_embedding": model.norms.embeddings,
        "relative_attention_bias": model.positions.startswith("relative"),
        "ffn_glu": model.feed_forward.gated,
        "rms_norm": model.norms.kind == "rms",
    }
    layers = specs.transformer_spec
    encoder = layers.TransformerEncoderSpec(model.num_layers, model.num_heads, **shared)
    decoder = layers.TransformerDecoderSpec(model.num_decoder_layers, model.num_decoder_heads, **shared)
    _set_stack(encoder, "encoder", encoder_half(model), trained)
    _set_stack(decoder, "decoder", decoder_half(model), trained)
    _set_lm_head(decoder, trained)
    spec = layers.TransformerSpec(encoder, decoder)
    source, other = trained.vocabularies
    spec.register_source_vocabulary(unique_tokens(source))
    spec.register_target_vocabulary(unique_tokens(other))
    _set_special_tokens(spec.config, source, other)
    for name, value in _caller_settings(trained).items():
        spec.config.add_attribute(name, value)
    spec.config.layer_norm_epsilon = model.norms.epsilon
    spec.validate()
    spec.optimize()
    spec.save(str(target))


def unique_tokens(vocabulary: Vocabulary) -> list[str]:
    """The token of each id; later ones with the same spelling get their id as a suffix, as CTranslate2 requires."""
    ids: dict[str, int] = {}
    for i in range(vocabulary.size):
        token = vocabulary.token(i)
        while token in ids:
            token = f"{token}#{i}"
        ids[token] = i
    return list(ids)


def _import_specs() -> Any:
    try:
        from ctranslate2 import specs  # pyright: ignore[reportMissingImports]  # of an extra
    except ImportError as error:
        raise InputError(
            "ctranslate2", "the package is not installed", "run pip install 'flaxformer-lite[ctranslate2]'"
        ) from error
    return specs


def _check_supported(model: ModelConfig) -> None:
    """Raises ``InputError`` that lists everything CTranslate2 does not support."""
    problems = []
    for key, supported in _SUPPORTED.items():
        value: Any = model
        for name in key.split("."):
            value = getattr(value, name)
        if value not in supported:
            problems.append(f"config.model.{key}={value!r} (only {', '.join(map(repr, supported))})")
    heads = (model.num_heads, model.num_key_heads), (model.num_decoder_heads, model.num_decoder_key_heads)
    problems += [f"{kv_heads} key-value heads beside {own} heads" for own, kv_heads in heads if own != kv_heads]
    require(not problems, "config.model", f"CTranslate2 does not support {'; '.join(problems)}")


def _set_special_tokens(config: Any, source: Vocabulary, target: Vocabulary) -> None:
    """Sets the special tokens, and has CTranslate2 add those around a source where it can."""
    special = target.special
    config.unk_token, config.eos_token = target.token(special.unknown), target.token(special.end)
    config.bos_token = config.decoder_start_token = target.token(special.begin)
    if _adds_source_tokens(source):
        config.add_source_bos, config.add_source_eos = bool(source.prefix_ids), bool(source.suffix_ids)
        config.bos_token = source.token((*source.prefix_ids, special.begin)[0])


def _adds_source_tokens(source: Vocabulary) -> bool:
    """Whether CTranslate2 can add all tokens around a source: at most one before it and the end token after it."""
    return len(source.prefix_ids) <= 1 and source.suffix_ids in ((), (source.special.end,))


def _caller_settings(trained: TrainedModel) -> dict[str, Any]:
    """What a caller must add to source tokens and pass as arguments, since CTranslate2 does not read it.

    These are mainly languages: mBART's follows the end token of a source, M2M-100's is the prefix of a target.
    """
    source, target = trained.vocabularies
    decode = trained.config.decode
    around = ((), ()) if _adds_source_tokens(source) else (source.prefix_ids, source.suffix_ids)
    prefix = target.prefix_ids if decode.forced_bos else ()
    names, sides = ("source_prefix", "source_suffix", "target_prefix"), (source, source, target)
    values = {
        name: [side.token(i) for i in ids] for name, side, ids in zip(names, sides, (*around, prefix), strict=True)
    }
    sequences = [ids for ids in forbidden_ids(decode.suppress_tokens, target) if len(ids) > 1]
    return values | {
        "end_token": [target.token(target.special.end), *decode.end_tokens],
        "suppress_sequences": [[target.token(i) for i in ids] for ids in sequences],
    }


def _set_stack(spec: Any, side: str, half: Half, trained: TrainedModel) -> None:
    model, params = trained.config.model, trained.params
    separate = side == "encoder" and "source_embedding/table" in params
    embeddings = spec.embeddings[0] if side == "encoder" else spec.embeddings
    vocabulary = trained.vocabularies[side == "decoder"]
    table = _array(params["source_embedding/table" if separate else "target_embedding/table"])
    embeddings.weight = table[: vocabulary.size]
    spec.scale_embeddings = float(half.width**0.5) if model.embeddings.scale else 1.0
    if hasattr(spec, "position_encodings"):
        spec.position_encodings.encodings = _position_table(trained, side, half)
    if model.norms.embeddings:
        _set_norm(spec.layernorm_embedding, params, f"{side}/norm_embeddings")
    if model.norm == "before":
        _set_norm(spec.layer_norm, params, f"{side}/norm")
    for number, layer in enumerate(spec.layer):
        _set_layer(layer, f"{side}/layers_{number}", half, trained)
        if model.positions.startswith("relative"):
            owner = f"{side}/layers_{number}" if model.positions == "relative_per_layer" else side
            layer.self_attention.relative_attention_bias = _array(params[f"{owner}/positions/table"])
            distance = np.int32(model.position_details.max_distance)
            layer.self_attention.relative_attention_max_distance = distance


def _position_table(trained: TrainedModel, side: str, half: Half) -> np.ndarray:
    """The position embeddings, from position 0."""
    details = trained.config.model.position_details
    if trained.config.model.positions == "learned":
        table = _array(trained.params[f"{side}/positions/vectors/table"])[details.offset :]
        return table * np.float32(half.width**0.5 if details.scale else 1)
    positions = np.arange(details.longest or _NUM_POSITIONS) + details.offset
    return np.asarray(waves.LAYOUTS[trained.config.model.positions](positions, half.width), np.float32)


def _set_layer(spec: Any, path: str, half: Half, trained: TrainedModel) -> None:
    params = trained.params
    scalar = trained.config.model.attention.query_scalar
    for name, spec_name in (("self_attention", "self_attention"), ("cross_attention", "attention")):
        if not hasattr(spec, spec_name) or f"{path}/{name}/query" not in params:
            continue
        attention = getattr(spec, spec_name)
        query, key, value = (_projection(params, f"{path}/{name}/{part}") for part in ("query", "key", "value"))
        if name == "self_attention":
            _set_linear(attention.linear[0], *_concatenate(query, key, value))
        else:
            _set_linear(attention.linear[0], *query)
            _set_linear(attention.linear[1], *_concatenate(key, value))
        out = _array(params[f"{path}/{name}/out"])
        _set_linear(
            attention.linear[-1], out.reshape(-1, out.shape[-1]).T, _optional(params, f"{path}/{name}/out_bias")
        )
        attention.queries_scale = float((scalar or half.head_width) ** -0.5)  # its default is width / heads
        _set_norm(attention.layer_norm, params, f"{path}/{name}_residual/norm")
    gated = trained.config.model.feed_forward.gated
    _set_dense(spec.ffn.linear_0, params, f"{path}/feed_forward/{'gate' if gated else 'up'}")
    if gated:
        _set_dense(spec.ffn.linear_0_noact, params, f"{path}/feed_forward/up")
    _set_dense(spec.ffn.linear_1, params, f"{path}/feed_forward/down")
    _set_norm(spec.ffn.layer_norm, params, f"{path}/feed_forward_residual/norm")


def _set_lm_head(decoder: Any, trained: TrainedModel) -> None:
    params, target = trained.params, trained.vocabularies[1]
    size, special = target.size, target.special
    kernel, bias = _optional(params, "output/kernel"), _optional(params, "output/bias")
    weight = _array(params["target_embedding/table"]) if kernel is None else kernel.T
    bias = np.zeros(size, np.float32) if bias is None else bias[:size].copy()
    never = {special.pad, special.begin} - {special.end}  # as in every search here
    suppressed = {ids[0] for ids in forbidden_ids(trained.config.decode.suppress_tokens, target) if len(ids) == 1}
    bias[sorted(never | suppressed - {*target.prefix_ids})] = NEVER
    _set_linear(decoder.projection, weight[:size], bias)
    if trained.config.model.output.scale:
        decoder.scale_outputs = float(trained.config.model.decoder_width**-0.5)


def _projection(params: dict[str, Any], path: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Kernel of queries, keys or values, ``[d h k]`` as ``[h·k d]``, and its bias."""
    kernel, bias = _array(params[path]), _optional(params, f"{path}_bias")
    return kernel.reshape(len(kernel), -1).T, None if bias is None else bias.reshape(-1)


def _concatenate(*parts: tuple[np.ndarray, np.ndarray | None]) -> tuple[np.ndarray, np.ndarray | None]:
    biases = [bias for _, bias in parts if bias is not None]
    return np.concatenate([kernel for kernel, _ in parts]), np.concatenate(biases) if biases else None


def _set_dense(spec: Any, params: dict[str, Any], path: str) -> None:
    _set_linear(spec, _array(params[f"{path}/kernel"]).T, _optional(params, f"{path}/bias"))


def _set_linear(spec: Any, weight: np.ndarray, bias: np.ndarray | None) -> None:
    spec.weight = np.ascontiguousarray(weight)
    if bias is not None:
        spec.bias = bias


def _set_norm(spec: Any, params: dict[str, Any], path: str) -> None:
    spec.gamma = _array(params[f"{path}/scale"])
    if f"{path}/bias" in params:
        spec.beta = _array(params[f"{path}/bias"])


def _optional(params: dict[str, Any], path: str) -> np.ndarray | None:
    return _array(params[path]) if path in params else None


def _array(param: Any) -> np.ndarray:
    return np.asarray(param, np.float32)
