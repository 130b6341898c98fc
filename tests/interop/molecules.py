"""A Transformer that others trained and ship: analogues of molecules, in the package ``annalog`` 1.0.6 (MIT).

It is Vaswani's, with learned positions, and rewrites SMILES strings. The package keeps its weights in a pickle, of
which nothing is executed here: the names in it stand for what this file says or are refused.
"""

from __future__ import annotations

import importlib.util
import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from flaxformer_lite.config.dataclasses import DecodeConfig
from flaxformer_lite.data.vocabularies.pretrained import Frame, TokenizerVocabulary
from flaxformer_lite.interop.families.tensors import HEADS, HEADS_IN, HEADS_OUT, MATRIX, Names, Row
from flaxformer_lite.types import SpecialIds

INSTALL = "reads a trained model that a package ships: pip install --no-deps annalog==1.0.6 partialsmiles"
_PARTS = {
    "self_attention": ("self_attention", "self_attn_layer_norm"),
    "cross_attention": ("encoder_attention", "enc_attn_layer_norm"),
}
PAD, BEGIN = 1, 2
# One token: what stands in brackets, a ring of two digits, an atom of two letters, or a character.
_TOKEN = r"\[[^\]]*\]|%\d{2}|Br|Cl|."
SETTINGS = {
    "model.width": 256,
    "model.num_heads": 8,
    "model.mlp_width": 512,
    "model.num_layers": 3,
    "model.positions": "learned",
    "model.position_details.longest": 102,
    "model.position_details.scale": False,
    "model.norm": "after",
    "model.norms.epsilon": 1e-5,
    "model.share_embeddings": "none",
    "data.max_source_length": 102,
    "data.max_target_length": 102,
}


def folder() -> Path:
    """Where the package lies; it is not imported."""
    found = importlib.util.find_spec("annalog")
    if found is None or found.origin is None:
        pytest.skip(INSTALL)
    return Path(found.origin).parent


class Inert(pickle.Unpickler):
    """Reads arrays and dictionaries, and runs nothing that a file names."""

    def __init__(self, file: Any, storages: zipfile.ZipFile | None = None):
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _array,
            ("torch", "FloatStorage"): np.float32,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is not among what this file may name")
        return known[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        assert self._storages is not None
        _, dtype, key, *_ = pid
        return np.frombuffer(self._storages.read(f"archive/data/{key}"), dtype)


def _array(storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> np.ndarray:
    size = int(np.prod(shape))
    array = storage[offset : offset + size].reshape(shape)
    assert array.strides == tuple(stride * storage.itemsize for stride in strides)
    return array


def read_tensors(package: Path) -> dict[str, np.ndarray]:
    """All tensors by their names."""
    with zipfile.ZipFile(package / "ckpt_and_vocab" / "Lev_extended.pt") as archive:
        return dict(Inert(io.BytesIO(archive.read("archive/data.pkl")), archive).load())


def read_vocabularies(package: Path) -> tuple[TokenizerVocabulary, TokenizerVocabulary]:
    """The tokens of SMILES strings; a source is opened and closed, a target closed."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    entries = Inert(io.BytesIO((package / "ckpt_and_vocab" / "stereo_experiment_vocab_ttf.pkl").read_bytes())).load()
    ids = {entry: i for i, entry in enumerate(entries["itos"])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_TOKEN), "isolated")
    tokenizer.decoder = decoders.Fuse()
    special = SpecialIds(pad=ids["<pad>"], end=ids["<eos>"], unknown=ids["<unk>"], begin=ids["<sos>"])
    target = TokenizerVocabulary(tokenizer.to_str(), len(ids), Frame(special, (), (special.end,), ()))
    return target.framed(target.frame._replace(opening=(special.begin,))), target


def names() -> Names:
    """Which tensor is which parameter."""
    rows = [
        Row("encoder.tok_embedding.weight", "source_embedding/table"),
        Row("decoder.tok_embedding.weight", "target_embedding/table"),
        Row("decoder.fc_out.weight", "output/kernel", MATRIX),
        Row("decoder.fc_out.bias", "output/bias"),
    ]
    for half in ("encoder", "decoder"):
        rows.append(Row(f"{half}.pos_embedding.weight", f"{half}/positions/vectors/table"))
        theirs, ours = f"{half}.layers.{{}}.", f"{half}/layers_{{}}/"
        for sublayer, (attention, norm) in _PARTS.items():
            rows += _of_norm(f"{theirs}{norm}", f"{ours}{sublayer}_residual/norm")
            for name, part in (("q", "query"), ("k", "key"), ("v", "value")):
                rows.append(Row(f"{theirs}{attention}.fc_{name}.weight", f"{ours}{sublayer}/{part}", HEADS_IN))
                rows.append(Row(f"{theirs}{attention}.fc_{name}.bias", f"{ours}{sublayer}/{part}_bias", HEADS))
            rows.append(Row(f"{theirs}{attention}.fc_o.weight", f"{ours}{sublayer}/out", HEADS_OUT))
            rows.append(Row(f"{theirs}{attention}.fc_o.bias", f"{ours}{sublayer}/out_bias"))
        rows += _of_norm(f"{theirs}ff_layer_norm", f"{ours}feed_forward_residual/norm")
        for name, part in (("fc_1", "up"), ("fc_2", "down")):
            product = f"{theirs}positionwise_feedforward.{name}"
            rows.append(Row(f"{product}.weight", f"{ours}feed_forward/{part}/kernel", MATRIX))
            rows.append(Row(f"{product}.bias", f"{ours}feed_forward/{part}/bias"))
    return Names(tuple(rows), {})


def _of_norm(theirs: str, ours: str) -> tuple[Row, Row]:
    return Row(f"{theirs}.weight", f"{ours}/scale"), Row(f"{theirs}.bias", f"{ours}/bias")


def searched(decode: DecodeConfig, method: Literal["greedy", "beam"], count: int) -> DecodeConfig:
    """As the package searches: by log-probability alone."""
    return replace(decode, method=method, beam_variant="hf", length_penalty=0.0, beam_size=count, n_best=count)


def their_code(package: Path) -> Any:
    """The package's own model, with what else it would import left out."""
    parent = types.ModuleType("annalog_model_files")
    parent.__path__ = [str(package / "model_files")]
    sys.modules.setdefault(parent.__name__, parent)
    return importlib.import_module("annalog_model_files.seq2seq_attention")
