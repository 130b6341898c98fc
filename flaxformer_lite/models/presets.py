"""Published encoder-decoders as values of the ``model`` group, each a function of the name of a size.

    from flaxformer_lite.models import presets

    config.model.update_from_flattened_dict(presets.t5_1_1("base").model)

The decoder's values are listed only where they differ from the encoder's, which they default to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flaxformer_lite.errors import InputError

Values = dict[str, Any]


class SpecialTokens(NamedTuple):
    """Ids of padding, of the end of a text and of the decoder's first input."""

    pad: int
    end: int
    start: int


class Preset(NamedTuple):
    """A family in one of its sizes.

    Attributes:
      model: dotted keys of ``config.model``.
      vocabulary: number of rows of the embedding table, unused ones included; 0: depends on the training text.
      special: ids; if the vocabulary depends on the training text, those of the first model.
    """

    model: Values
    vocabulary: int
    special: SpecialTokens


_T5_SPECIAL = SpecialTokens(pad=0, end=1, start=0)
_FAIRSEQ_SPECIAL = SpecialTokens(pad=1, end=2, start=2)

# width, mlp_dim, num_layers of the encoder and of the decoder, num_heads, head_dim
_T5 = {
    "small": (512, 2048, 6, 6, 8, 64),
    "base": (768, 3072, 12, 12, 12, 64),
    "large": (1024, 4096, 24, 24, 16, 64),
    "3b": (1024, 16384, 24, 24, 32, 128),
    "11b": (1024, 65536, 24, 24, 128, 128),
}
_T5_1_1 = {
    "small": (512, 1024, 8, 8, 6, 64),
    "base": (768, 2048, 12, 12, 12, 64),
    "large": (1024, 2816, 24, 24, 16, 64),
    "xl": (2048, 5120, 24, 24, 32, 64),
    "xxl": (4096, 10240, 24, 24, 64, 64),
}
_BYT5 = {
    "small": (1472, 3584, 12, 4, 6, 64),
    "base": (1536, 3968, 18, 6, 12, 64),
    "large": (1536, 3840, 36, 12, 16, 64),
    "xl": (2560, 6720, 36, 12, 32, 64),
    "xxl": (4672, 12352, 36, 12, 64, 64),
}


def vaswani(size: str) -> Preset:
    """Vaswani et al. (2017), table 3: ``base`` and ``big``, for 37,000 subwords shared by English and German."""
    width, mlp_dim, heads, dropout = _of(size, {"base": (512, 2048, 8, 0.1), "big": (1024, 4096, 16, 0.3)})
    model = {
        **{"encoder.width": width, "encoder.mlp_dim": mlp_dim, "encoder.num_heads": heads, "encoder.num_layers": 6},
        **{"encoder.norm.placement": "post", "encoder.dropout": dropout, "share_embeddings": "all"},
    }
    return Preset(model, 37_000, SpecialTokens(0, 1, 2))


def t5(size: str) -> Preset:
    """Raffel et al. (2020), table 14 and section 3.6.2: ``small``, ``base``, ``large``, ``3b``, ``11b``."""
    parts = {"encoder.feed_forward.activation": "relu", "encoder.feed_forward.gated": False}
    model = {**_t5_sizes(_of(size, _T5)), **parts, "share_embeddings": "all", "lm_head.scale": True}
    return Preset(model, 32_128, _T5_SPECIAL)


def t5_1_1(size: str) -> Preset:
    """T5 1.1 (after Shazeer 2020) and Flan-T5 (Chung et al. 2022): ``small``, ``base``, ``large``, ``xl``, ``xxl``."""
    return Preset(_gated(_of(size, _T5_1_1)), 32_128, _T5_SPECIAL)


def mt5(size: str) -> Preset:
    """Xue et al. (2021): ``small``, ``base``, ``large``, ``xl``, ``xxl``."""
    return Preset(_gated(_of(size, _T5_1_1)), 250_112, _T5_SPECIAL)


def byt5(size: str) -> Preset:
    """Xue et al. (2022), table 1: ``small``, ``base``, ``large``, ``xl``, ``xxl``; 256 bytes and 128 other ids."""
    return Preset(_gated(_of(size, _BYT5)), 384, _T5_SPECIAL)


def umt5(size: str) -> Preset:
    """Chung et al. (2023): ``small``, ``base``, ``xl``, ``xxl``; with a relative position bias per layer."""
    sizes = {name: numbers for name, numbers in _T5_1_1.items() if name != "large"}
    return Preset({**_gated(_of(size, sizes)), "encoder.positions.per_layer": True}, 256_384, _T5_SPECIAL)


def bart(size: str) -> Preset:
    """Lewis et al. (2020): ``base`` and ``large``."""
    numbers = _of(size, {"base": (768, 3072, 6, 12), "large": (1024, 4096, 12, 16)})
    model = {
        **_fairseq_sizes(numbers),
        **_positions("learned", max_length=1024, offset=2, scale=False),
        "encoder.norm.placement": "post",
        "encoder.norm.embeddings": True,
        "encoder.feed_forward.activation": "gelu",
        "scale_embeddings": False,
        "lm_head.bias": "always",
    }
    return Preset(model, 50_265, _FAIRSEQ_SPECIAL)


def mbart(size: str) -> Preset:
    """Liu et al. (2020), of 25 languages: ``large-cc25``; Tang et al. (2020), of 50: ``large-50``."""
    vocabulary = _of(size, {"large-cc25": 250_027, "large-50": 250_054})
    model = {
        **_fairseq_sizes((1024, 4096, 12, 16), attention_dropout=0.0, feed_forward_dropout=0.0),
        **_positions("learned", max_length=1024, offset=2, scale=False),
        "encoder.norm.placement": "pre",
        "encoder.norm.embeddings": True,
        "encoder.feed_forward.activation": "gelu",
        "lm_head.bias": "always",
    }
    return Preset(model, vocabulary, _FAIRSEQ_SPECIAL)


def marian(size: str) -> Preset:
    """OPUS-MT (Tiedemann & Thottingal 2020), Marian's Transformer: ``base``, and ``big`` of later models.

    The vocabulary is one of both languages; its last id is padding, which is also the decoder's first input.
    """
    numbers = _of(size, {"base": (512, 2048, 6, 8), "big": (1024, 4096, 6, 16)})
    model = {
        **_fairseq_sizes(numbers, attention_dropout=0.0, feed_forward_dropout=0.0),
        **_positions("sinusoidal_concat", max_length=512 if size == "base" else 1024, scale=False),
        "encoder.norm.placement": "post",
        "encoder.feed_forward.activation": "silu",
        "lm_head.bias": "always",
    }
    return Preset(model, 0, SpecialTokens(pad=58_100, end=0, start=58_100))  # English to German


def pegasus(size: str) -> Preset:
    """Zhang et al. (2020): ``large``."""
    model = {
        **_fairseq_sizes(_of(size, {"large": (1024, 4096, 16, 16)})),
        **_positions("sinusoidal_concat", max_length=1024, scale=False),
        "encoder.norm.placement": "pre",
        "encoder.feed_forward.activation": "relu",
        "lm_head.bias": "always",
    }
    return Preset(model, 96_103, _T5_SPECIAL)


def m2m_100(size: str) -> Preset:
    """Fan et al. (2020): ``418m`` and ``1.2b``."""
    numbers = _of(size, {"418m": (1024, 4096, 12, 16), "1.2b": (1024, 8192, 24, 16)})
    return Preset({**_many_languages(numbers), "encoder.layerdrop": 0.05}, 128_112, _FAIRSEQ_SPECIAL)


def nllb(size: str) -> Preset:
    """NLLB team (2022), the dense ones: ``600m`` (distilled), ``1.3b``, ``3.3b``."""
    sizes = {"600m": (1024, 4096, 12, 16), "1.3b": (1024, 8192, 24, 16), "3.3b": (2048, 8192, 24, 16)}
    return Preset(_many_languages(_of(size, sizes)), 256_206, _FAIRSEQ_SPECIAL)


_GEMMA_KEYS = ("width", "mlp_dim", "num_layers", "num_heads", "num_kv_heads", "head_dim")
_GEMMA = {
    "s": (512, 1024, 8, 8, 0, 64),
    "b": (768, 2048, 12, 12, 0, 64),
    "l": (1024, 2816, 24, 16, 0, 64),
    "ml": (1152, 6912, 26, 4, 0, 256),
    "xl": (2048, 5120, 24, 32, 0, 64),
    "2b": (2304, 9216, 26, 8, 4, 256),
    "9b": (3584, 14336, 42, 16, 8, 256),
}
_PAIRS = ("s-s", "b-b", "l-l", "ml-ml", "xl-xl", "2b-2b", "9b-2b", "9b-9b")


def t5gemma(size: str) -> Preset:
    """Zhang et al. (2025): sizes of encoder and decoder, such as ``b-b`` and ``9b-2b``."""
    encoder, decoder = _of(size, {pair: pair.split("-") for pair in _PAIRS})
    sizes = {f"encoder.{key}": value for key, value in zip(_GEMMA_KEYS, _GEMMA[encoder], strict=True)}
    if decoder != encoder:
        sizes |= {f"decoder.{key}": value for key, value in zip(_GEMMA_KEYS, _GEMMA[decoder], strict=True)}
    model = {
        **sizes,
        **_dropout(0.0, attention=0.0, feed_forward=0.0),
        "encoder.positions.kind": "rotary",
        "encoder.norm.placement": "sandwich",
        "encoder.norm.kind": "rms",
        "encoder.norm.unit_offset": True,
        "encoder.attention.bias": False,
        "encoder.attention.query_pre_attn_scalar": float(_GEMMA[decoder][-1]),
        "encoder.attention.soft_cap": 50.0,
        "encoder.attention.sliding_window": 4096,
        "encoder.attention.layer_pattern": ("local", "global"),
        "encoder.feed_forward.activation": "gelu_tanh",
        "encoder.feed_forward.gated": True,
        "encoder.feed_forward.bias": False,
        "share_embeddings": "target",
        "lm_head.bias": "never",
        "lm_head.soft_cap": 30.0,
        "init": "normal_0.02",
    }
    return Preset(model, 256_000, SpecialTokens(pad=0, end=1, start=2))


def _of(size: str, sizes: Mapping[str, Any]) -> Any:
    if size not in sizes:
        raise InputError(f"{size!r} is no size of this family; it has {', '.join(sizes)}")
    return sizes[size]


def _t5_sizes(numbers: tuple[int, ...]) -> Values:
    width, mlp_dim, layers, decoder_layers, heads, head_dim = numbers
    return {
        **_sizes(width, mlp_dim, layers, heads, head_dim),
        **({"decoder.num_layers": decoder_layers} if decoder_layers != layers else {}),
        **_dropout(0.1, attention=0.1, feed_forward=0.1),
        "encoder.final_dropout": 0.1,
        "encoder.positions.kind": "relative_bias",
        "encoder.norm.placement": "pre",
        "encoder.norm.kind": "rms",
        "encoder.attention.bias": False,
        "encoder.attention.query_pre_attn_scalar": 1.0,
        "encoder.feed_forward.bias": False,
        "scale_embeddings": False,
        "lm_head.bias": "never",
        "init": "fan_in",
    }


def _gated(numbers: tuple[int, ...]) -> Values:
    parts = {"encoder.feed_forward.activation": "gelu_tanh", "encoder.feed_forward.gated": True}
    return {**_t5_sizes(numbers), **parts, "share_embeddings": "inputs", "lm_head.scale": False}


def _fairseq_sizes(
    numbers: tuple[int, ...], attention_dropout: float = 0.1, feed_forward_dropout: float = 0.1
) -> Values:
    return {
        **_sizes(*numbers, head_dim=0),
        **_dropout(0.1, attention_dropout, feed_forward_dropout),
        "encoder.norm.epsilon": 1e-5,
        "share_embeddings": "all",
        "init": "normal_0.02",
    }


def _many_languages(numbers: tuple[int, ...]) -> Values:
    return {
        **_fairseq_sizes(numbers, feed_forward_dropout=0.0),
        **_positions("sinusoidal_fairseq", max_length=1024, offset=2, scale=False),
        "encoder.norm.placement": "pre",
        "encoder.feed_forward.activation": "relu",
        "lm_head.bias": "never",
    }


def _sizes(width: int, mlp_dim: int, num_layers: int, num_heads: int, head_dim: int) -> Values:
    sizes = {"width": width, "mlp_dim": mlp_dim, "num_layers": num_layers, "num_heads": num_heads, "head_dim": head_dim}
    return {f"encoder.{key}": size for key, size in sizes.items()}


def _dropout(rate: float, attention: float, feed_forward: float) -> Values:
    """Rates, set one by one because published configs list all three."""
    rates = {"dropout": rate, "attention.dropout": attention, "feed_forward.dropout": feed_forward}
    return {f"encoder.{key}": rate for key, rate in rates.items()}


def _positions(kind: str, **details: Any) -> Values:
    return {f"encoder.positions.{key}": value for key, value in {"kind": kind, **details}.items()}
