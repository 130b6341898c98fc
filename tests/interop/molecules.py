"""Trained model of the package ``annalog`` 1.0.6 (MIT), which generates analogues of molecules.

It is the Transformer of Vaswani et al. with learned positions and rewrites SMILES strings. The package stores its
weights in a pickle. No code in it is executed: only the few names listed here can be resolved.
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
from flaxformer_lite.data.vocabularies.pretrained import TokenizerJsonVocabulary, TokenTemplate
from flaxformer_lite.interop.families.name_map import (
    MATRIX,
    NameMap,
    NameRule,
    attention_rules,
    dense_rules,
    norm_rules,
)
from flaxformer_lite.types import SpecialIds

INSTALL = "uses the trained model of a package: pip install --no-deps annalog==1.0.6 partialsmiles"
_PARTS = {
    "self_attention": ("self_attention", "self_attn_layer_norm"),
    "cross_attention": ("encoder_attention", "enc_attn_layer_norm"),
}
PAD, BEGIN = 1, 2
# One token: a bracket expression, a ring closure of two digits, an element of two letters, or a character.
_TOKEN = r"\[[^\]]*\]|%\d{2}|Br|Cl|."
SETTINGS = {
    "model.encoder.width": 256,
    "model.encoder.num_heads": 8,
    "model.encoder.mlp_dim": 512,
    "model.encoder.num_layers": 3,
    "model.encoder.positions.kind": "learned",
    "model.encoder.positions.max_length": 102,
    "model.encoder.positions.scale": False,
    "model.encoder.norm.placement": "post",
    "model.encoder.norm.epsilon": 1e-5,
    "model.share_embeddings": "none",
    "data.max_source_length": 102,
    "data.max_target_length": 102,
}


def folder() -> Path:
    """The directory of the package, which is not imported."""
    found = importlib.util.find_spec("annalog")
    if found is None or found.origin is None:
        pytest.skip(INSTALL)
    return Path(found.origin).parent


class SafeUnpickler(pickle.Unpickler):
    """Reads arrays and dictionaries and executes no other code."""

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
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in this file")
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
    """All tensors by name."""
    with zipfile.ZipFile(package / "ckpt_and_vocab" / "Lev_extended.pt") as archive:
        return dict(SafeUnpickler(io.BytesIO(archive.read("archive/data.pkl")), archive).load())


def read_vocabularies(package: Path) -> tuple[TokenizerJsonVocabulary, TokenizerJsonVocabulary]:
    """Vocabularies of SMILES tokens; a source has a begin and an end token, a target an end token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    entries = SafeUnpickler(
        io.BytesIO((package / "ckpt_and_vocab" / "stereo_experiment_vocab_ttf.pkl").read_bytes())
    ).load()
    ids = {entry: i for i, entry in enumerate(entries["itos"])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_TOKEN), "isolated")
    tokenizer.decoder = decoders.Fuse()
    special = SpecialIds(pad=ids["<pad>"], end=ids["<eos>"], unknown=ids["<unk>"], begin=ids["<sos>"])
    target = TokenizerJsonVocabulary(tokenizer.to_str(), len(ids), TokenTemplate(special, (), (special.end,), ()))
    return target.with_template(target.template._replace(prefix_ids=(special.begin,))), target


def name_map() -> NameMap:
    """The tensor of each parameter."""
    rules = [
        NameRule("encoder.tok_embedding.weight", "source_embedding/table"),
        NameRule("decoder.tok_embedding.weight", "target_embedding/table"),
        NameRule("decoder.fc_out.weight", "output/kernel", MATRIX),
        NameRule("decoder.fc_out.bias", "output/bias"),
    ]
    for side in ("encoder", "decoder"):
        rules.append(NameRule(f"{side}.pos_embedding.weight", f"{side}/positions/vectors/table"))
        tensor, param = f"{side}.layers.{{}}.", f"{side}/layers_{{}}/"
        for sublayer, (attention, norm) in _PARTS.items():
            rules += norm_rules(f"{tensor}{norm}", f"{param}{sublayer}_residual/norm")
            rules += attention_rules([f"{tensor}{attention}.fc_{name}" for name in "qkvo"], f"{param}{sublayer}")
        rules += norm_rules(f"{tensor}ff_layer_norm", f"{param}feed_forward_residual/norm")
        for name, part in (("fc_1", "up"), ("fc_2", "down")):
            rules += dense_rules(f"{tensor}positionwise_feedforward.{name}", f"{param}feed_forward/{part}")
    return NameMap(tuple(rules), {})


def decode_config(decode: DecodeConfig, method: Literal["greedy", "beam"], count: int) -> DecodeConfig:
    """The search of the package, by log-probability without a length penalty."""
    return replace(decode, method=method, beam_variant="hf", length_penalty=0.0, beam_size=count, n_best=count)


def import_model_code(package: Path) -> Any:
    """The module of the package's model, imported without the rest of the package."""
    parent = types.ModuleType("annalog_model_files")
    parent.__path__ = [str(package / "model_files")]
    sys.modules.setdefault(parent.__name__, parent)
    return importlib.import_module("annalog_model_files.seq2seq_attention")
