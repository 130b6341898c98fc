"""Published encoder-decoders as values of our ``model`` group: each a function of the name of a size.

    from flaxformer_lite.models import families

    config.model.update_from_flattened_dict(families.t5_1_1("base").model)

Plain values: nothing here computes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flaxformer_lite.errors import InputError

Values = dict[str, Any]


class Special(NamedTuple):
    """Ids with a meaning of their own: what fills up rows, ends what is said, and is read first by the decoder."""

    pad: int
    end: int
    start: int


class Published(NamedTuple):
    """A family in one of its sizes.

    Attributes:
      model: dotted keys of ``config.model``.
      vocabulary: entries, rows of word vectors that no token has included; 0: that of each training text.
      special: ids; of a vocabulary that depends on the training text those of the first model.
    """

    model: Values
    vocabulary: int
    special: Special


_T5_SPECIAL = Special(pad=0, end=1, start=0)
_FAIRSEQ_SPECIAL = Special(pad=1, end=2, start=2)

# Width, hidden units, layers of the encoder and of the decoder, heads, width of a head.
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


def vaswani(size: str) -> Published:
    """Vaswani et al. (2017), table 3: ``base`` and ``big``, for 37,000 subwords of English and German together."""
    width, mlp_width, heads, dropout = _of(size, {"base": (512, 2048, 8, 0.1), "big": (1024, 4096, 16, 0.3)})
    sizes = {"width": width, "mlp_width": mlp_width, "num_heads": heads, "num_layers": 6}
    return Published(
        {**sizes, "norm": "after", "share_embeddings": "all", "dropout": dropout}, 37_000, Special(0, 1, 2)
    )


def t5(size: str) -> Published:
    """Raffel et al. (2020), table 14 and section 3.6.2: ``small``, ``base``, ``large``, ``3b``, ``11b``."""
    model = {**_t5_sizes(_of(size, _T5)), "feed_forward.activation": "relu", "feed_forward.gated": False}
    return Published({**model, "share_embeddings": "all", "output.scale": True}, 32_128, _T5_SPECIAL)


def t5_1_1(size: str) -> Published:
    """T5 1.1 (after Shazeer 2020) and Flan-T5 (Chung et al. 2022): ``small``, ``base``, ``large``, ``xl``, ``xxl``."""
    return Published(_gated(_of(size, _T5_1_1)), 32_128, _T5_SPECIAL)


def mt5(size: str) -> Published:
    """Xue et al. (2021): ``small``, ``base``, ``large``, ``xl``, ``xxl``."""
    return Published(_gated(_of(size, _T5_1_1)), 250_112, _T5_SPECIAL)


def byt5(size: str) -> Published:
    """Xue et al. (2022), table 1: ``small``, ``base``, ``large``, ``xl``, ``xxl``; 256 bytes and 128 other ids."""
    return Published(_gated(_of(size, _BYT5)), 384, _T5_SPECIAL)


def umt5(size: str) -> Published:
    """Chung et al. (2023): ``small``, ``base``, ``xl``, ``xxl``; each layer has relative positions of its own."""
    sizes = {name: numbers for name, numbers in _T5_1_1.items() if name != "large"}
    return Published({**_gated(_of(size, sizes)), "positions": "relative_per_layer"}, 256_384, _T5_SPECIAL)


def bart(size: str) -> Published:
    """Lewis et al. (2020): ``base`` and ``large``."""
    numbers = _of(size, {"base": (768, 3072, 6, 6, 12), "large": (1024, 4096, 12, 12, 16)})
    model = {
        **_fairseq_sizes(numbers),
        **_learned(1024),
        "norm": "after",
        "norms.embeddings": True,
        "feed_forward.activation": "gelu",
        "embeddings.scale": False,
        "output.bias": "always",
    }
    return Published(model, 50_265, _FAIRSEQ_SPECIAL)


def mbart(size: str) -> Published:
    """Liu et al. (2020), of 25 languages: ``large-cc25``; Tang et al. (2020), of 50: ``large-50``."""
    vocabulary = _of(size, {"large-cc25": 250_027, "large-50": 250_054})
    model = {
        **_fairseq_sizes((1024, 4096, 12, 12, 16)),
        **_learned(1024),
        "norm": "before",
        "norms.embeddings": True,
        "feed_forward.activation": "gelu",
        "attention.dropout": 0.0,
        "feed_forward.dropout": 0.0,
        "output.bias": "always",
    }
    return Published(model, vocabulary, _FAIRSEQ_SPECIAL)


def marian(size: str) -> Published:
    """OPUS-MT (Tiedemann & Thottingal 2020), Marian's Transformer: ``base``, and ``big`` of later models.

    The vocabulary is one of both languages; its last id is padding, which the decoder reads first.
    """
    numbers = _of(size, {"base": (512, 2048, 6, 6, 8), "big": (1024, 4096, 6, 6, 16)})
    model = {
        **_fairseq_sizes(numbers),
        "positions": "halves",
        "position_details.longest": 512 if size == "base" else 1024,
        "position_details.scale": False,
        "norm": "after",
        "feed_forward.activation": "silu",
        "attention.dropout": 0.0,
        "feed_forward.dropout": 0.0,
        "output.bias": "always",
    }
    return Published(model, 0, Special(pad=58_100, end=0, start=58_100))  # English to German


def pegasus(size: str) -> Published:
    """Zhang et al. (2020): ``large``."""
    model = {
        **_fairseq_sizes(_of(size, {"large": (1024, 4096, 16, 16, 16)})),
        "positions": "halves",
        "position_details.longest": 1024,
        "position_details.scale": False,
        "norm": "before",
        "feed_forward.activation": "relu",
        "output.bias": "always",
    }
    return Published(model, 96_103, _T5_SPECIAL)


def m2m_100(size: str) -> Published:
    """Fan et al. (2020): ``418m`` and ``1.2b``."""
    numbers = _of(size, {"418m": (1024, 4096, 12, 12, 16), "1.2b": (1024, 8192, 24, 24, 16)})
    return Published({**_many_languages(numbers), "layer_dropout": 0.05}, 128_112, _FAIRSEQ_SPECIAL)


def nllb(size: str) -> Published:
    """NLLB team (2022), the dense ones: ``600m`` (distilled), ``1.3b``, ``3.3b``."""
    sizes = {"600m": (1024, 4096, 12, 12, 16), "1.3b": (1024, 8192, 24, 24, 16), "3.3b": (2048, 8192, 24, 24, 16)}
    return Published({**_many_languages(_of(size, sizes)), "feed_forward.dropout": 0.0}, 256_206, _FAIRSEQ_SPECIAL)


# Width, hidden units, layers, heads, heads of keys, width of a head.
_GEMMA = {
    "s": (512, 1024, 8, 8, 8, 64),
    "b": (768, 2048, 12, 12, 12, 64),
    "l": (1024, 2816, 24, 16, 16, 64),
    "ml": (1152, 6912, 26, 4, 4, 256),
    "xl": (2048, 5120, 24, 32, 32, 64),
    "2b": (2304, 9216, 26, 8, 4, 256),
    "9b": (3584, 14336, 42, 16, 8, 256),
}
_PAIRS = ("s-s", "b-b", "l-l", "ml-ml", "xl-xl", "2b-2b", "9b-2b", "9b-9b")


def t5gemma(size: str) -> Published:
    """Zhang et al. (2025): sizes of encoder and decoder, such as ``b-b`` and ``9b-2b``."""
    encoder, decoder = (_GEMMA[half] for half in _of(size, {pair: pair.split("-") for pair in _PAIRS}))
    names = ("width", "mlp_width", "num_layers", "num_heads", "num_key_heads", "head_width")
    theirs = ("decoder_width", "decoder_mlp_width", "num_decoder_layers", "num_decoder_heads", "num_decoder_key_heads")
    model = {
        **dict(zip(names, encoder, strict=True)),
        **dict(zip((*theirs, "decoder_head_width"), decoder, strict=True)),
        "positions": "rotary",
        "norm": "around",
        "norms.kind": "rms_from_one",
        "attention.bias": False,
        "attention.query_scalar": float(decoder[-1]),
        "attention.softcap": 50.0,
        "attention.window": 4096,
        "attention.pattern": ("window", "full"),
        "feed_forward.activation": "gelu_tanh",
        "feed_forward.gated": True,
        "feed_forward.bias": False,
        "share_embeddings": "target",
        "output.bias": "never",
        "output.softcap": 30.0,
        "init": "small",
        "dropout": 0.0,
        "attention.dropout": 0.0,
        "feed_forward.dropout": 0.0,
    }
    return Published(model, 256_000, Special(pad=0, end=1, start=2))


def _of(size: str, sizes: Mapping[str, Any]) -> Any:
    if size not in sizes:
        raise InputError(f"{size!r} is no size of this family; it has {', '.join(sizes)}")
    return sizes[size]


def _t5_sizes(numbers: tuple[int, ...]) -> Values:
    width, mlp_width, layers, decoder_layers, heads, head_width = numbers
    return {
        **_same_halves(width, mlp_width, heads, head_width),
        "num_layers": layers,
        "num_decoder_layers": decoder_layers,
        "positions": "relative",
        "norm": "before",
        "norms.kind": "rms",
        "attention.bias": False,
        "attention.query_scalar": 1.0,
        "feed_forward.bias": False,
        "embeddings.scale": False,
        "output.bias": "never",
        "init": "fan_in",
        "dropout": 0.1,
        "attention.dropout": 0.1,
        "feed_forward.dropout": 0.1,
        "final_dropout": 0.1,
    }


def _gated(numbers: tuple[int, ...]) -> Values:
    parts = {"feed_forward.activation": "gelu_tanh", "feed_forward.gated": True}
    return {**_t5_sizes(numbers), **parts, "share_embeddings": "inputs", "output.scale": False}


def _fairseq_sizes(numbers: tuple[int, ...]) -> Values:
    width, mlp_width, layers, decoder_layers, heads = numbers
    return {
        **_same_halves(width, mlp_width, heads, 0),
        "num_layers": layers,
        "num_decoder_layers": decoder_layers,
        "norms.epsilon": 1e-5,
        "share_embeddings": "all",
        "init": "small",
        "dropout": 0.1,
        "attention.dropout": 0.1,
        "feed_forward.dropout": 0.1,
    }


def _learned(longest: int) -> Values:
    details = {"longest": longest, "offset": 2, "scale": False}
    return {"positions": "learned", **{f"position_details.{key}": value for key, value in details.items()}}


def _many_languages(numbers: tuple[int, ...]) -> Values:
    return {
        **_fairseq_sizes(numbers),
        "positions": "fairseq",
        "position_details.longest": 1024,
        "position_details.offset": 2,
        "position_details.scale": False,
        "norm": "before",
        "feed_forward.activation": "relu",
        "feed_forward.dropout": 0.0,
        "output.bias": "never",
    }


def _same_halves(width: int, mlp_width: int, heads: int, head_width: int) -> Values:
    encoder = {"width": width, "mlp_width": mlp_width, "head_width": head_width}
    both = {**encoder, **{f"decoder_{key}": value for key, value in encoder.items()}}
    return both | dict.fromkeys(("num_heads", "num_key_heads", "num_decoder_heads", "num_decoder_key_heads"), heads)
