"""Small tokenizers in the file formats of published checkpoints; each function writes one and returns its ids."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from flaxformer_lite.interop import language_codes
from tests.interop import tokenizer_files as files
from tests.interop.tokenizer_files import names, pieces, write

Ids = dict[str, int]

_NLLB = ("ace_Arab", "ace_Latn", "eng_Latn", "fra_Latn", "zul_Latn")  # some of its languages


def _tokenizer_json(converter: str, folder: Path, name: str, special: list[Any], **known: Any) -> Any:
    """The tokenizer of a SentencePiece model as transformers converts it to tokenizer.json."""
    from transformers.convert_slow_tokenizer import SLOW_TO_FAST_CONVERTERS

    ids = known.pop("ids", {})
    given = SimpleNamespace(vocab_file=str(folder / name), convert_tokens_to_ids=ids.get, **known)
    converted = SLOW_TO_FAST_CONVERTERS[converter](given).converted()
    converted.add_special_tokens(special)
    return converted


def _mask() -> Any:
    from tokenizers import AddedToken

    return AddedToken("<mask>", lstrip=True, normalized=False, special=True)


_T5 = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def _sentinels(count: int) -> list[str]:
    return [f"<extra_id_{i}>" for i in range(count)]


def t5(folder: Path) -> Ids:
    """spiece.model and tokenizer.json, with sentinels after the pieces."""
    model = pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    named = {**_T5, "additional_special_tokens": _sentinels(100)}
    settings = {**named, "extra_ids": 100, "model_max_length": 512, "name_or_path": "t5-small"}
    settings |= {"clean_up_tokenization_spaces": True, "sp_model_kwargs": {}, "special_tokens_map_file": None}
    write(folder, {"spiece.model": model, "special_tokens_map.json": named})
    write(folder, {"tokenizer_config.json": settings | {"tokenizer_class": "T5Tokenizer"}})
    special = ["<pad>", "</s>", "<unk>", *_sentinels(100)[::-1]]
    converted = _tokenizer_json("T5Tokenizer", folder, "spiece.model", special, _extra_ids=100, ids={"</s>": 1})
    write(folder, {"tokenizer.json": converted.to_str().encode()})
    return {"size": len(names(model)) + 103}


def byt5(folder: Path) -> Ids:
    """No vocabulary file."""
    named = {**_T5, "additional_special_tokens": _sentinels(125)}
    settings = {**named, "extra_ids": 125, "tokenizer_class": "ByT5Tokenizer"}
    write(folder, {"special_tokens_map.json": named, "tokenizer_config.json": settings})
    return {"size": 384}


def mt5(folder: Path) -> Ids:
    """Only spiece.model, whose last pieces are sentinels that start with a space."""
    sentinels = ",".join(f"▁{name}" for name in _sentinels(7)[::-1])
    model = pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1, user_defined_symbols=sentinels)
    settings = {**_T5, "additional_special_tokens": None, "extra_ids": 0, "special_tokens_map_file": None}
    settings |= {"name_or_path": "google/mt5-small", "tokenizer_class": "T5Tokenizer"}
    write(folder, {"spiece.model": model, "special_tokens_map.json": _T5, "tokenizer_config.json": settings})
    return {"size": len(names(model)) + 12}


def umt5(folder: Path) -> Ids:
    """Byte fallback, a begin token, and sentinels that are listed individually."""
    sentinels = _sentinels(30)
    symbols = ",".join(sentinels[::-1])
    ids = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3}
    model = pieces(**ids, byte_fallback="true", user_defined_symbols=symbols, vocab_size=420)
    table = {name: i for i, name in enumerate(names(model))}
    special = ["<pad>", "</s>", "<s>", "<unk>", *sentinels[::-1]]
    listed = {
        str(table[name]): {
            **{"content": name, "lstrip": False, "normalized": False, "rstrip": False},
            **{"single_word": False, "special": True},
        }
        for name in special
    }
    settings = {**_T5, "added_tokens_decoder": listed, "additional_special_tokens": sentinels, "bos_token": "<s>"}
    settings |= {"clean_up_tokenization_spaces": True, "sp_model_kwargs": {}, "tokenizer_class": "T5Tokenizer"}
    write(folder, {"spiece.model": model, "tokenizer_config.json": settings})
    converted = _tokenizer_json("T5Tokenizer", folder, "spiece.model", special, _extra_ids=0, ids={"</s>": 1})
    described = json.loads(converted.to_str())
    described["model"] |= {"byte_fallback": True, "unk_id": 3}
    write(folder, {"tokenizer.json": json.dumps(described, ensure_ascii=False).encode()})
    return {"size": len(table) + 12}


def bart(folder: Path) -> Ids:
    """vocab.json, merges.txt and tokenizer.json."""
    size = files.bart(folder)["vocab_size"]
    described = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    table = described["model"]["vocab"]
    last = {i: token for token, i in table.items()}[size - 1]
    table |= {last: table["<mask>"], "<mask>": size - 1}  # the last token
    described["added_tokens"][-1] |= {"id": size - 1, "lstrip": True}
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in described["model"]["merges"]]
    write(folder, {"tokenizer.json": described, "vocab.json": table})
    write(folder, {"tokenizer_config.json": {"model_max_length": 1024}})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", "utf-8")
    return {"size": size}


def bart_pairs(folder: Path) -> Ids:
    """Only vocab.json and merges.txt."""
    ids = bart(folder)
    (folder / "tokenizer.json").unlink()
    return ids


def codet5(folder: Path) -> Ids:
    """Byte-level BPE of BART for a T5, with sentinels in a separate file."""
    size = bart_pairs(folder)["size"]
    table = json.loads((folder / "vocab.json").read_text("utf-8"))
    table |= {"<pad>": 0, "<s>": 1}
    sentinels = {name: size + i for i, name in enumerate(_sentinels(5)[::-1])}
    named = {**_T5, "bos_token": "<s>", "additional_special_tokens": _sentinels(5), "add_prefix_space": False}
    write(folder, {"vocab.json": table, "added_tokens.json": sentinels})
    write(folder, {"tokenizer_config.json": named | {"trim_offsets": True, "tokenizer_class": "RobertaTokenizer"}})
    return {"size": size + 5}


_FAIRSEQ = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "sep_token": "</s>"}


def mbart(folder: Path) -> Ids:
    """No file names the tokenizer's class."""
    model = pieces(unk_id=0, bos_id=1, eos_id=2)
    write(folder, {"sentencepiece.bpe.model": model, "tokenizer_config.json": {"model_max_length": 1024}})
    size = len(names(model))
    ids = {code: size + 1 + i for i, code in enumerate(language_codes.MBART)}
    special = ["<s>", "<pad>", "</s>", "<unk>", *language_codes.MBART, _mask()]
    converted = _tokenizer_json("MBartTokenizer", folder, "sentencepiece.bpe.model", special, ids=ids | {"</s>": 2})
    write(folder, {"tokenizer.json": converted.to_str().encode()})
    return {"size": size + 27, **ids}


def mbart_50(folder: Path) -> Ids:
    """The languages are listed as special tokens."""
    model = pieces(unk_id=0, bos_id=1, eos_id=2)
    mask = {"content": "<mask>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": True}
    named = {**_FAIRSEQ, "unk_token": "<unk>", "additional_special_tokens": list(language_codes.MBART50)}
    settings = {**named, "language_codes": "ML50", "mask_token": mask | {"__type": "AddedToken"}, "src_lang": None}
    settings |= {"sp_model_kwargs": {}, "tgt_lang": None, "tokenizer_class": "MBart50Tokenizer"}
    write(folder, {"sentencepiece.bpe.model": model, "tokenizer_config.json": settings})
    write(folder, {"special_tokens_map.json": named | {"mask_token": mask}})
    size = len(names(model))
    return {"size": size + 54} | {code: size + 1 + i for i, code in enumerate(language_codes.MBART50)}


def marian(folder: Path) -> Ids:
    """Two SentencePiece models and one table; the settings contain only languages."""
    ids = files.marian(folder)
    write(folder, {"tokenizer_config.json": {"target_lang": "de", "source_lang": "en"}})
    return {"size": ids["vocab_size"], "pad": ids["pad_token_id"]}


def pegasus(folder: Path) -> Ids:
    """spiece.model and tokenizer.json with 105 special tokens."""
    size = files.pegasus(folder)["vocab_size"]
    named = {**_T5, "mask_token": "<mask_2>"}
    named |= {"additional_special_tokens": ["<mask_1>", *(f"<unk_{i}>" for i in range(2, 103))]}
    settings = {"full_tokenizer_file": None, "model_max_length": 512, "special_tokens_map_file": None}
    write(folder, {"special_tokens_map.json": named, "tokenizer_config.json": settings | named})
    known = {"pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask_2>", "mask_token_sent": "<mask_1>"}
    known |= {"mask_token_id": 3, "offset": 103, "eos_token_id": 1}
    special = ["<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{i}>" for i in range(2, 103)), "<unk>"]
    converted = _tokenizer_json("PegasusTokenizer", folder, "spiece.model", special, **known)
    write(folder, {"tokenizer.json": converted.to_str().encode()})
    return {"size": size}


def m2m_100(folder: Path) -> Ids:
    """Pieces with a table of ids, followed by listed languages."""
    size = files.m2m100(folder)["vocab_size"]
    named = {**_FAIRSEQ, "unk_token": "<unk>", "additional_special_tokens": list(language_codes.M2M100)}
    named.pop("cls_token")
    settings = {**named, "language_codes": "m2m100", "model_max_length": 1024, "num_madeup_words": 8}
    settings |= {"src_lang": None, "tgt_lang": None, "tokenizer_class": "M2M100Tokenizer"}
    write(folder, {"special_tokens_map.json": named, "tokenizer_config.json": settings})
    return {"size": size, "named": size - 8} | {code: size - 108 + i for i, code in enumerate(language_codes.M2M100)}


def nllb(folder: Path) -> Ids:
    """A BPE model; the languages are in tokenizer.json and special_tokens_map.json."""
    import transformers

    model = pieces(unk_id=0, bos_id=1, eos_id=2, model_type="bpe")
    mask = {"content": "<mask>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": True}
    settings = {**_FAIRSEQ, "model_max_length": 1024, "mask_token": mask | {"__type": "AddedToken"}}
    settings |= {"special_tokens_map_file": None, "tokenizer_class": "NllbTokenizer", "unk_token": "<unk>"}
    named = {**_FAIRSEQ, "unk_token": "<unk>", "mask_token": mask, "additional_special_tokens": list(_NLLB)}
    write(folder, {"sentencepiece.bpe.model": model, "tokenizer_config.json": settings})
    write(folder, {"special_tokens_map.json": named})
    size = len(names(model)) + 1
    converted = transformers.NllbTokenizer.from_pretrained(folder, extra_special_tokens=list(_NLLB))
    write(folder, {"tokenizer.json": converted.backend_tokenizer.to_str().encode()})
    return {"size": size + len(_NLLB) + 3} | {code: converted.convert_tokens_to_ids(code) for code in _NLLB}


def gemma(folder: Path) -> Ids:
    """tokenizer.json with a token for the end of a turn."""
    size = files.gemma(folder)["vocab_size"]
    described = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    table = described["model"]["vocab"]
    named = ("<mask>", "<start_of_turn>", "<end_of_turn>")
    table |= {token: size + i for i, token in enumerate(named)}
    listed = {
        str(table[token]): {
            **{"content": token, "lstrip": False, "normalized": False, "rstrip": False},
            **{"single_word": False, "special": token != "<mask>"},
        }
        for token in ("<pad>", "<eos>", "<bos>", "<unk>", *named)
    }
    described["added_tokens"] = [{"id": int(i), **token} for i, token in listed.items()]
    settings = {"add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": listed, "bos_token": "<bos>"}
    settings |= {"clean_up_tokenization_spaces": False, "eos_token": "<eos>", "pad_token": "<pad>"}
    settings |= {"spaces_between_special_tokens": False, "tokenizer_class": "GemmaTokenizer", "unk_token": "<unk>"}
    write(folder, {"tokenizer.json": described, "tokenizer_config.json": settings})
    return {"size": len(table), "turn": table["<end_of_turn>"]}
