"""Published encoder-decoders as values of the ``model`` group, each a function of the name of a size.

    from flaxformer_lite.models import presets

    config.model.update_from_flattened_dict(presets.t5_1_1("base").model)

The decoder's values are listed only where they differ from the encoder's, which they default to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

# Rates of dropout are set one by one because published configs list all three.
_T5_1_1: Values = {
    "encoder.dropout": 0.1,
    "encoder.attention.dropout": 0.1,
    "encoder.feed_forward.dropout": 0.1,
    "encoder.final_dropout": 0.1,
    "encoder.positions.kind": "relative_bias",
    "encoder.norm.placement": "pre",
    "encoder.norm.kind": "rms",
    "encoder.attention.bias": False,
    "encoder.attention.query_pre_attn_scalar": 1.0,
    "encoder.feed_forward.activation": "gelu_tanh",
    "encoder.feed_forward.gated": True,
    "encoder.feed_forward.bias": False,
    "share_embeddings": "inputs",
    "scale_embeddings": False,
    "lm_head.bias": "never",
    "lm_head.scale": False,
    "init": "fan_in",
}
_FAIRSEQ: Values = {
    "encoder.dropout": 0.1,
    "encoder.attention.dropout": 0.1,
    "encoder.feed_forward.dropout": 0.1,
    "encoder.positions.max_length": 1024,
    "encoder.positions.scale": False,
    "encoder.norm.placement": "pre",
    "encoder.norm.epsilon": 1e-5,
    "share_embeddings": "all",
    "lm_head.bias": "always",
    "init": "normal_0.02",
}
_M2M_100 = _FAIRSEQ | {
    "encoder.feed_forward.dropout": 0.0,
    "encoder.positions.kind": "sinusoidal_fairseq",
    "encoder.positions.offset": 2,
    "encoder.feed_forward.activation": "relu",
    "lm_head.bias": "never",
}
_T5GEMMA: Values = {
    "encoder.dropout": 0.0,
    "encoder.attention.dropout": 0.0,
    "encoder.feed_forward.dropout": 0.0,
    "encoder.positions.kind": "rotary",
    "encoder.norm.placement": "sandwich",
    "encoder.norm.kind": "rms",
    "encoder.norm.unit_offset": True,
    "encoder.attention.bias": False,
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

_SIZE_KEYS = ("width", "mlp_dim", "num_layers", "num_heads", "head_dim", "num_kv_heads")
_T5_SIZES = {
    "small": (512, 2048, 6, 8, 64),
    "base": (768, 3072, 12, 12, 64),
    "large": (1024, 4096, 24, 16, 64),
    "3b": (1024, 16384, 24, 32, 128),
    "11b": (1024, 65536, 24, 128, 128),
}
_T5_1_1_SIZES = {
    "small": (512, 1024, 8, 6, 64),
    "base": (768, 2048, 12, 12, 64),
    "large": (1024, 2816, 24, 16, 64),
    "xl": (2048, 5120, 24, 32, 64),
    "xxl": (4096, 10240, 24, 64, 64),
}
_BYT5_SIZES = {  # the decoder has a third of the encoder's layers
    "small": (1472, 3584, 12, 6, 64),
    "base": (1536, 3968, 18, 12, 64),
    "large": (1536, 3840, 36, 16, 64),
    "xl": (2560, 6720, 36, 32, 64),
    "xxl": (4672, 12352, 36, 64, 64),
}
_BART_SIZES = {"base": (768, 3072, 6, 12, 0), "large": (1024, 4096, 12, 16, 0)}
_MARIAN_SIZES = {"base": (512, 2048, 6, 8, 0), "big": (1024, 4096, 6, 16, 0)}
_M2M_100_SIZES = {"418m": (1024, 4096, 12, 16, 0), "1.2b": (1024, 8192, 24, 16, 0)}
_NLLB_SIZES = {"600m": (1024, 4096, 12, 16, 0), "1.3b": (1024, 8192, 24, 16, 0), "3.3b": (2048, 8192, 24, 16, 0)}
_GEMMA_SIZES = {
    "s": (512, 1024, 8, 8, 64, 0),
    "b": (768, 2048, 12, 12, 64, 0),
    "l": (1024, 2816, 24, 16, 64, 0),
    "ml": (1152, 6912, 26, 4, 256, 0),
    "xl": (2048, 5120, 24, 32, 64, 0),
    "2b": (2304, 9216, 26, 8, 256, 4),
    "9b": (3584, 14336, 42, 16, 256, 8),
}
_GEMMA_PAIRS = ("s-s", "b-b", "l-l", "ml-ml", "xl-xl", "2b-2b", "9b-2b", "9b-9b")


def vaswani(size: str) -> Preset:
    """Vaswani et al. (2017), table 3: ``base`` and ``big``, for 37,000 subwords shared by English and German."""
    numbers, dropout = _of(size, {"base": ((512, 2048, 6, 8), 0.1), "big": ((1024, 4096, 6, 16), 0.3)})
    model = {"encoder.norm.placement": "post", "encoder.dropout": dropout, "share_embeddings": "all"}
    return Preset(_sizes(numbers) | model, 37_000, SpecialTokens(0, 1, 2))


def t5(size: str) -> Preset:
    """Raffel et al. (2020), table 14 and section 3.6.2: ``small``, ``base``, ``large``, ``3b``, ``11b``."""
    changes = {
        "encoder.feed_forward.activation": "relu",
        "encoder.feed_forward.gated": False,
        "share_embeddings": "all",
        "lm_head.scale": True,
    }
    return Preset(_T5_1_1 | _sizes(_of(size, _T5_SIZES)) | changes, 32_128, _T5_SPECIAL)


def t5_1_1(size: str) -> Preset:
    """T5 1.1 (after Shazeer 2020) and Flan-T5 (Chung et al. 2022): ``small``, ``base``, ``large``, ``xl``, ``xxl``."""
    return Preset(_T5_1_1 | _sizes(_of(size, _T5_1_1_SIZES)), 32_128, _T5_SPECIAL)


def mt5(size: str) -> Preset:
    """Xue et al. (2021): ``small``, ``base``, ``large``, ``xl``, ``xxl``."""
    return t5_1_1(size)._replace(vocabulary=250_112)


def byt5(size: str) -> Preset:
    """Xue et al. (2022), table 1: ``small``, ``base``, ``large``, ``xl``, ``xxl``; 256 bytes and 128 other ids."""
    sizes = _sizes(_of(size, _BYT5_SIZES))
    decoder = {"decoder.num_layers": sizes["encoder.num_layers"] // 3}
    return Preset(_T5_1_1 | sizes | decoder, 384, _T5_SPECIAL)


def umt5(size: str) -> Preset:
    """Chung et al. (2023): ``small``, ``base``, ``xl``, ``xxl``; with a relative position bias per layer."""
    numbers = _of(size, {name: numbers for name, numbers in _T5_1_1_SIZES.items() if name != "large"})
    return Preset(_T5_1_1 | _sizes(numbers) | {"encoder.positions.per_layer": True}, 256_384, _T5_SPECIAL)


def bart(size: str) -> Preset:
    """Lewis et al. (2020): ``base`` and ``large``."""
    changes = {
        "encoder.positions.kind": "learned",
        "encoder.positions.offset": 2,
        "encoder.norm.placement": "post",
        "encoder.norm.embeddings": True,
        "encoder.feed_forward.activation": "gelu",
        "scale_embeddings": False,
    }
    return Preset(_FAIRSEQ | _sizes(_of(size, _BART_SIZES)) | changes, 50_265, _FAIRSEQ_SPECIAL)


def mbart(size: str) -> Preset:
    """Liu et al. (2020), of 25 languages: ``large-cc25``; Tang et al. (2020), of 50: ``large-50``."""
    vocabulary = _of(size, {"large-cc25": 250_027, "large-50": 250_054})
    changes = {
        "encoder.attention.dropout": 0.0,
        "encoder.feed_forward.dropout": 0.0,
        "encoder.norm.placement": "pre",
        "scale_embeddings": True,
    }
    return Preset(bart("large").model | changes, vocabulary, _FAIRSEQ_SPECIAL)


def marian(size: str) -> Preset:
    """OPUS-MT (Tiedemann & Thottingal 2020), Marian's Transformer: ``base``, and ``big`` of later models.

    The vocabulary is one of both languages; its last id is padding, which is also the decoder's first input.
    """
    changes = {
        "encoder.attention.dropout": 0.0,
        "encoder.feed_forward.dropout": 0.0,
        "encoder.positions.kind": "sinusoidal_concat",
        "encoder.positions.max_length": 512 if size == "base" else 1024,
        "encoder.norm.placement": "post",
        "encoder.feed_forward.activation": "silu",
    }
    special = SpecialTokens(pad=58_100, end=0, start=58_100)  # English to German
    return Preset(_FAIRSEQ | _sizes(_of(size, _MARIAN_SIZES)) | changes, 0, special)


def pegasus(size: str) -> Preset:
    """Zhang et al. (2020): ``large``."""
    sizes = _sizes(_of(size, {"large": (1024, 4096, 16, 16, 0)}))
    changes = {"encoder.positions.kind": "sinusoidal_concat", "encoder.feed_forward.activation": "relu"}
    return Preset(_FAIRSEQ | sizes | changes, 96_103, _T5_SPECIAL)


def m2m_100(size: str) -> Preset:
    """Fan et al. (2020): ``418m`` and ``1.2b``."""
    sizes = _sizes(_of(size, _M2M_100_SIZES))
    return Preset(_M2M_100 | sizes | {"encoder.layerdrop": 0.05}, 128_112, _FAIRSEQ_SPECIAL)


def nllb(size: str) -> Preset:
    """NLLB team (2022), the dense ones: ``600m`` (distilled), ``1.3b``, ``3.3b``."""
    return Preset(_M2M_100 | _sizes(_of(size, _NLLB_SIZES)), 256_206, _FAIRSEQ_SPECIAL)


def t5gemma(size: str) -> Preset:
    """Zhang et al. (2025): sizes of encoder and decoder, such as ``b-b`` and ``9b-2b``."""
    encoder, decoder = (_GEMMA_SIZES[side] for side in _of(size, {pair: pair.split("-") for pair in _GEMMA_PAIRS}))
    sizes = _sizes(encoder) | (_sizes(decoder, "decoder") if decoder != encoder else {})
    scalar = {"encoder.attention.query_pre_attn_scalar": float(decoder[4])}
    return Preset(_T5GEMMA | sizes | scalar, 256_000, SpecialTokens(pad=0, end=1, start=2))


def _of(size: str, sizes: Mapping[str, Any]) -> Any:
    if size not in sizes:
        raise InputError(f"{size!r} is no size of this family; it has {', '.join(sizes)}")
    return sizes[size]


def _sizes(numbers: Sequence[int], side: str = "encoder") -> Values:
    return {f"{side}.{key}": number for key, number in zip(_SIZE_KEYS, numbers, strict=False)}
