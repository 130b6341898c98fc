"""A trained model as CTranslate2 (Klein et al. 2020; OpenNMT) serves it: its ``model.bin`` and vocabularies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.data.vocabularies.vocabulary import Vocabulary
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.inference.search_from_config import forbidden_ids
from flaxformer_lite.interop.exporting import Trained
from flaxformer_lite.models import waves
from flaxformer_lite.models.attention import NEVER
from flaxformer_lite.models.halves import Half, decoder_half, encoder_half

_ROWS = 2048  # of the table of waves, where nothing says how long texts may be
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


def write_served(trained: Trained, target: Path) -> None:
    """Writes what ``ctranslate2.Translator`` opens into a folder that is there.

    Raises:
      InputError: the package is not installed, or has nothing for a part of this model.
    """
    specs = _specs()
    model = trained.config.model
    _check(model)
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
    kinds = specs.transformer_spec
    encoder = kinds.TransformerEncoderSpec(model.num_layers, model.num_heads, **shared)
    decoder = kinds.TransformerDecoderSpec(model.num_decoder_layers, model.num_decoder_heads, **shared)
    _set_half(encoder, "encoder", encoder_half(model), trained)
    _set_half(decoder, "decoder", decoder_half(model), trained)
    _set_output(decoder, trained)
    spec = kinds.TransformerSpec(encoder, decoder)
    source, other = trained.vocabularies
    spec.register_source_vocabulary(tokens(source))
    spec.register_target_vocabulary(tokens(other))
    _set_special(spec.config, source, other)
    for name, added in _frame(trained).items():
        spec.config.add_attribute(name, added)
    spec.config.layer_norm_epsilon = model.norms.epsilon
    spec.validate()
    spec.optimize()
    spec.save(str(target))


def tokens(vocabulary: Vocabulary) -> list[str]:
    """That of each id; where several are written alike the first has the name, as no list of theirs has one twice."""
    names: dict[str, int] = {}
    for i in range(vocabulary.size):
        name = vocabulary.token(i)
        while name in names:
            name = f"{name}#{i}"
        names[name] = i
    return list(names)


def _specs() -> Any:
    try:
        from ctranslate2 import specs  # pyright: ignore[reportMissingImports]  # of an extra
    except ImportError as error:
        raise InputError(
            "--format=ctranslate2 needs the package ctranslate2: pip install 'flaxformer-lite[ctranslate2]'"
        ) from error
    return specs


def _check(model: ModelConfig) -> None:
    """Names all that CTranslate2 has nothing for."""
    wrong = []
    for key, values in _SUPPORTED.items():
        value: Any = model
        for name in key.split("."):
            value = getattr(value, name)
        if value not in values:
            wrong.append(f"config.model.{key}={value!r} (only {', '.join(map(repr, values))})")
    heads = (model.num_heads, model.num_key_heads), (model.num_decoder_heads, model.num_decoder_key_heads)
    wrong += [f"{keys} heads of keys beside {own} of queries" for own, keys in heads if own != keys]
    require(not wrong, f"--format=ctranslate2 cannot serve this model: {'; '.join(wrong)}")


def _set_special(config: Any, source: Vocabulary, target: Vocabulary) -> None:
    """Names tokens with a meaning, and has it add by itself what surrounds a source, where it can."""
    special = target.special
    config.unk_token, config.eos_token = target.token(special.unknown), target.token(special.end)
    config.bos_token = config.decoder_start_token = target.token(special.begin)
    if _is_simple(source):
        config.add_source_bos, config.add_source_eos = bool(source.opening), bool(source.closing)
        config.bos_token = source.token((*source.opening, special.begin)[0])


def _is_simple(source: Vocabulary) -> bool:
    """Whether what surrounds a source is one token before it at most, and its end token behind it at most."""
    return len(source.opening) <= 1 and source.closing in ((), (source.special.end,))


def _frame(trained: Trained) -> dict[str, Any]:
    """What callers put around a source's tokens, and ask of a target's; CTranslate2 itself reads none of it.

    Languages are such: mBART's stands behind a source's end, and M2M-100's is what a target begins with.
    """
    source, target = trained.vocabularies
    decode = trained.config.decode
    around = ((), ()) if _is_simple(source) else (source.opening, source.closing)
    said = target.opening if decode.forced_bos else ()
    names, sides = ("source_prefix", "source_suffix", "target_prefix"), (source, source, target)
    frame = {name: [side.token(i) for i in ids] for name, side, ids in zip(names, sides, (*around, said), strict=True)}
    several = [ids for ids in forbidden_ids(decode.suppress_tokens, target) if len(ids) > 1]
    return frame | {
        "end_token": [target.token(target.special.end), *decode.end_tokens],
        "suppress_sequences": [[target.token(i) for i in ids] for ids in several],
    }


def _set_half(spec: Any, side: str, half: Half, trained: Trained) -> None:
    model, params = trained.config.model, trained.params
    own = side == "encoder" and "source_embedding/table" in params
    embeddings = spec.embeddings[0] if side == "encoder" else spec.embeddings
    vocabulary = trained.vocabularies[side == "decoder"]
    table = _array(params["source_embedding/table" if own else "target_embedding/table"])
    embeddings.weight = table[: vocabulary.size]
    spec.scale_embeddings = float(half.width**0.5) if model.embeddings.scale else 1.0
    if hasattr(spec, "position_encodings"):
        spec.position_encodings.encodings = _positions(trained, side, half)
    if model.norms.embeddings:
        _set_norm(spec.layernorm_embedding, params, f"{side}/norm_embeddings")
    if model.norm == "before":
        _set_norm(spec.layer_norm, params, f"{side}/norm")
    for number, layer in enumerate(spec.layer):
        _set_layer(layer, f"{side}/layers_{number}", half, trained)
        if model.positions.startswith("relative"):
            place = f"{side}/layers_{number}" if model.positions == "relative_per_layer" else side
            layer.self_attention.relative_attention_bias = _array(params[f"{place}/positions/table"])
            distance = np.int32(model.position_details.max_distance)
            layer.self_attention.relative_attention_max_distance = distance


def _positions(trained: Trained, side: str, half: Half) -> np.ndarray:
    """A vector for each position from 0."""
    details = trained.config.model.position_details
    if trained.config.model.positions == "learned":
        table = _array(trained.params[f"{side}/positions/vectors/table"])[details.offset :]
        return table * np.float32(half.width**0.5 if details.scale else 1)
    places = np.arange(details.longest or _ROWS) + details.offset
    return np.asarray(waves.LAYOUTS[trained.config.model.positions](places, half.width), np.float32)


def _set_layer(spec: Any, path: str, half: Half, trained: Trained) -> None:
    params = trained.params
    scalar = trained.config.model.attention.query_scalar
    for ours, theirs in (("self_attention", "self_attention"), ("cross_attention", "attention")):
        if not hasattr(spec, theirs) or f"{path}/{ours}/query" not in params:
            continue
        attention = getattr(spec, theirs)
        query, key, value = (_projection(params, f"{path}/{ours}/{part}") for part in ("query", "key", "value"))
        if ours == "self_attention":
            _set_linear(attention.linear[0], *_fused(query, key, value))
        else:
            _set_linear(attention.linear[0], *query)
            _set_linear(attention.linear[1], *_fused(key, value))
        out = _array(params[f"{path}/{ours}/out"])
        bias = params.get(f"{path}/{ours}/out_bias")
        _set_linear(attention.linear[-1], out.reshape(-1, out.shape[-1]).T, None if bias is None else _array(bias))
        attention.queries_scale = float((scalar or half.head_width) ** -0.5)  # of itself by width / heads
        _set_norm(attention.layer_norm, params, f"{path}/{ours}_residual/norm")
    gated = trained.config.model.feed_forward.gated
    _set_dense(spec.ffn.linear_0, params, f"{path}/feed_forward/{'gate' if gated else 'up'}")
    if gated:
        _set_dense(spec.ffn.linear_0_noact, params, f"{path}/feed_forward/up")
    _set_dense(spec.ffn.linear_1, params, f"{path}/feed_forward/down")
    _set_norm(spec.ffn.layer_norm, params, f"{path}/feed_forward_residual/norm")


def _set_output(decoder: Any, trained: Trained) -> None:
    params, target = trained.params, trained.vocabularies[1]
    size, special = target.size, target.special
    kernel = params.get("output/kernel")
    weight = _array(params["target_embedding/table"]) if kernel is None else _array(kernel).T
    bias = _array(params["output/bias"])[:size].copy() if "output/bias" in params else np.zeros(size, np.float32)
    never = {special.pad, special.begin} - {special.end}  # no search of ours says them either
    forbidden = {ids[0] for ids in forbidden_ids(trained.config.decode.suppress_tokens, target) if len(ids) == 1}
    bias[sorted(never | forbidden - {*target.opening})] = NEVER
    _set_linear(decoder.projection, weight[:size], bias)
    if trained.config.model.output.scale:
        decoder.scale_outputs = float(trained.config.model.decoder_width**-0.5)


def _projection(params: dict[str, Any], path: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Of queries, keys or values: ``[d h k]`` as ``[h·k d]``, and its bias."""
    kernel, bias = _array(params[path]), params.get(f"{path}_bias")
    return kernel.reshape(len(kernel), -1).T, None if bias is None else _array(bias).reshape(-1)


def _fused(*parts: tuple[np.ndarray, np.ndarray | None]) -> tuple[np.ndarray, np.ndarray | None]:
    biases = [bias for _, bias in parts if bias is not None]
    return np.concatenate([kernel for kernel, _ in parts]), np.concatenate(biases) if biases else None


def _set_dense(spec: Any, params: dict[str, Any], path: str) -> None:
    bias = params.get(f"{path}/bias")
    _set_linear(spec, _array(params[f"{path}/kernel"]).T, None if bias is None else _array(bias))


def _set_linear(spec: Any, weight: np.ndarray, bias: np.ndarray | None) -> None:
    spec.weight = np.ascontiguousarray(weight)
    if bias is not None:
        spec.bias = bias


def _set_norm(spec: Any, params: dict[str, Any], path: str) -> None:
    spec.gamma = _array(params[f"{path}/scale"])
    if f"{path}/bias" in params:
        spec.beta = _array(params[f"{path}/bias"])


def _array(param: Any) -> np.ndarray:
    return np.asarray(param, np.float32)
