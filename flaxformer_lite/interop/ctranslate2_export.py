"""Export of a trained model to CTranslate2 (Klein et al. 2020): its ``model.bin``, config.json and vocabularies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from flaxformer_lite.config.model_dataclasses import ModelConfig, StackConfig
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.inference.search_from_config import suppressed_ids
from flaxformer_lite.interop.exporting import TrainedModel
from flaxformer_lite.interop.families.config_map import architecture
from flaxformer_lite.models.layers.attention import MASKED
from flaxformer_lite.models.layers.positions import make_positions

_NUM_POSITIONS = 2048  # rows of the table of sinusoidal positions where the config sets no maximum length
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "kind": ("transformer",),
    "norm.placement": ("pre", "post"),
    "norm.unit_offset": (False,),
    "norm.final": ("unless_post",),
    "positions.kind": ("sinusoidal", "sinusoidal_concat", "sinusoidal_fairseq", "learned", "relative_bias"),
    "attention.soft_cap": (0.0,),
    "attention.sliding_window": (0,),
}


def write_ctranslate2(trained: TrainedModel, target: Path) -> None:
    """Writes the model for ``ctranslate2.Translator`` into an existing directory.

    Raises:
      InputError: the package is not installed, or does not support a part of this model.
    """
    specs = _import_specs()
    model = trained.config.model
    _check_supported(model)
    layers = specs.transformer_spec
    encoder, decoder = (
        make(stack.num_layers, stack.num_heads, **_spec_arguments(stack, specs.common_spec.Activation))
        for make, stack in (
            (layers.TransformerEncoderSpec, model.encoder),
            (layers.TransformerDecoderSpec, model.decoder),
        )
    )
    _set_stack(encoder, "encoder", trained)
    _set_stack(decoder, "decoder", trained)
    _set_lm_head(decoder, trained)
    spec = layers.TransformerSpec(encoder, decoder)
    source, other = trained.vocabularies
    spec.register_source_vocabulary(unique_tokens(source))
    spec.register_target_vocabulary(unique_tokens(other))
    _set_special_tokens(spec.config, source, other)
    for name, value in _caller_settings(trained).items():
        spec.config.add_attribute(name, value)
    spec.config.layer_norm_epsilon = model.encoder.norm.epsilon
    spec.validate()
    spec.optimize()
    spec.save(str(target))


def _spec_arguments(stack: StackConfig, activations: Any) -> dict[str, Any]:
    names = {"relu": "RELU", "gelu": "GELU", "gelu_tanh": "GELUTanh", "silu": "SWISH"}
    return {
        "pre_norm": stack.norm.placement == "pre",
        "activation": getattr(activations, names[stack.feed_forward.activation]),
        "layernorm_embedding": stack.norm.embeddings,
        "relative_attention_bias": stack.positions.kind == "relative_bias",
        "ffn_glu": stack.feed_forward.gated,
        "rms_norm": stack.norm.kind == "rms",
    }


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
    values = architecture(model)
    supported = {f"{side}.{key}": options for side in ("encoder", "decoder") for key, options in _SUPPORTED.items()}
    supported |= {f"{side}.num_kv_heads": (values[f"{side}.num_heads"],) for side in ("encoder", "decoder")}
    supported |= {"decoder.norm.epsilon": (model.encoder.norm.epsilon,), "lm_head.soft_cap": (0.0,)}
    problems = [
        f"config.model.{key}={values[key]!r} (only {', '.join(map(repr, options))})"
        for key, options in supported.items()
        if values[key] not in options
    ]
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
    sequences = [ids for ids in suppressed_ids(decode.suppress_tokens, target) if len(ids) > 1]
    return values | {
        "end_token": [target.token(target.special.end), *decode.end_tokens],
        "suppress_sequences": [[target.token(i) for i in ids] for ids in sequences],
    }


def _set_stack(spec: Any, side: str, trained: TrainedModel) -> None:
    model, params = trained.config.model, trained.params
    stack: StackConfig = getattr(model, side)
    separate = side == "encoder" and "source_embedding/table" in params
    embeddings = spec.embeddings[0] if side == "encoder" else spec.embeddings
    vocabulary = trained.vocabularies[side == "decoder"]
    table = _array(params["source_embedding/table" if separate else "target_embedding/table"])
    embeddings.weight = table[: vocabulary.size]
    spec.scale_embeddings = float(stack.width**0.5) if model.scale_embeddings else 1.0
    if hasattr(spec, "position_encodings"):
        spec.position_encodings.encodings = _position_table(stack, params, side)
    if stack.norm.embeddings:
        _set_norm(spec.layernorm_embedding, params, f"{side}/norm_embeddings")
    if stack.norm.placement == "pre":
        _set_norm(spec.layer_norm, params, f"{side}/norm")
    for number, layer in enumerate(spec.layer):
        _set_layer(layer, f"{side}/layers_{number}", stack, params)
        if stack.positions.kind == "relative_bias":
            owner = f"{side}/layers_{number}" if stack.positions.per_layer else side
            layer.self_attention.relative_attention_bias = _array(params[f"{owner}/positions/table"])
            layer.self_attention.relative_attention_max_distance = np.int32(stack.positions.max_distance)


def _position_table(stack: StackConfig, params: dict[str, Any], side: str) -> np.ndarray:
    """The position embeddings, from position 0."""
    if stack.positions.kind == "learned":
        table = _array(params[f"{side}/positions/vectors/table"])[stack.positions.offset :]
        return table * np.float32(stack.width**0.5 if stack.positions.scale else 1)
    count = stack.positions.max_length or _NUM_POSITIONS
    module = make_positions(stack, causal=False, max_length=0, weight_init="glorot")
    return _array(module.apply({}, jnp.zeros((count, stack.width)), np.arange(count, dtype=np.int32)))


def _set_layer(spec: Any, path: str, stack: StackConfig, params: dict[str, Any]) -> None:
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
        attention.queries_scale = float(
            (stack.attention.query_pre_attn_scalar or stack.head_size) ** -0.5
        )  # its default is width / heads
        _set_norm(attention.layer_norm, params, f"{path}/{name}_residual/norm")
    gated = stack.feed_forward.gated
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
    suppressed = {ids[0] for ids in suppressed_ids(trained.config.decode.suppress_tokens, target) if len(ids) == 1}
    bias[sorted(never | suppressed - {*target.prefix_ids})] = MASKED
    _set_linear(decoder.projection, weight[:size], bias)
    if trained.config.model.lm_head.scale:
        decoder.scale_outputs = float(trained.config.model.decoder.width**-0.5)


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
