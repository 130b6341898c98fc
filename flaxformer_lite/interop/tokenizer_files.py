"""The vocabularies that training makes, as a ``tokenizer.json`` that others read."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from flaxformer_lite.data.vocabularies.vocabulary import (
    UNKNOWN_SIGN,
    ByteVocabulary,
    CharacterVocabulary,
    SentencePieceVocabulary,
    Vocabulary,
    WordVocabulary,
)
from flaxformer_lite.interop.roles import Roles
from flaxformer_lite.types import SpecialIds

logger = logging.getLogger(__name__)

_FIRST_BLANK = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def write_tokenizer(vocabularies: tuple[Vocabulary, Vocabulary], roles: Roles, target: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, or says why there are none."""
    source, other = vocabularies
    described = describe(source)
    if source.to_json() != other.to_json() or not described:
        why = "sources and targets have two vocabularies" if described else "this vocabulary is of another kind"
        logger.info(f"no tokenizer is written: a tokenizer.json is one vocabulary made by training, and {why}")
        return
    names = dict(zip(("pad_token", "eos_token", "bos_token"), _special(source), strict=True))
    # In text their names are text.
    names |= {"split_special_tokens": True, "clean_up_tokenization_spaces": False}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | names
    (target / "tokenizer.json").write_text(json.dumps(described, ensure_ascii=False, indent=1) + "\n", "utf-8")
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def describe(vocabulary: Vocabulary) -> dict[str, Any]:
    """What a tokenizer.json of this vocabulary says; nothing where there is none."""
    special = _special(vocabulary)
    parts = _parts(vocabulary)
    if not parts:
        return {}
    added = [
        {"id": i, "content": token, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for i, token in enumerate(special)
    ]  # fmt: skip
    end = {"SpecialToken": {"id": special[1], "type_id": 0}}
    closing = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, end, {"Sequence": {"id": "B", "type_id": 0}}, end],
        "special_tokens": {special[1]: {"id": special[1], "ids": [1], "tokens": [special[1]]}},
    }
    plain = {"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None}
    return plain | {"added_tokens": added, "post_processor": closing} | parts


def _special(vocabulary: Vocabulary) -> list[str]:
    """What text leaves out: not what is unknown, which it shows."""
    return [vocabulary.token(i) for i in range(len(SpecialIds._fields)) if i != vocabulary.special.unknown]


def _parts(vocabulary: Vocabulary) -> dict[str, Any]:
    """How text is cut, what the pieces are called, and how they become text again."""
    tokens = [vocabulary.token(i) for i in range(vocabulary.size)]
    table = {token: i for i, token in enumerate(tokens)}
    unknown = tokens[vocabulary.special.unknown]
    by_table = {"type": "WordLevel", "vocab": table, "unk_token": unknown}
    shown, joined = _replaced({"String": unknown}, UNKNOWN_SIGN), {"type": "Fuse"}
    match vocabulary:
        case WordVocabulary():
            apart = [_replaced({"Regex": "^"}, vocabulary.separator), joined, _FIRST_BLANK]
            return {"pre_tokenizer": {"type": "WhitespaceSplit"}, "model": by_table, "decoder": _all(shown, *apart)}
        case CharacterVocabulary():
            cut = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
            return {"pre_tokenizer": cut, "model": by_table, "decoder": _all(shown, joined)}
        case ByteVocabulary():
            return _bytes(tokens[: len(SpecialIds._fields)], shown)
        case SentencePieceVocabulary():
            return _unigram(vocabulary, tokens)
    return {}


def _bytes(special: list[str], shown: dict[str, Any]) -> dict[str, Any]:
    """Each byte by the character that GPT-2's tokenizer (Radford et al. 2019) has for it, without any pairs."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    characters = {byte: chr(byte) for byte in own} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    table = {token: i for i, token in enumerate([*special, *(characters[byte] for byte in range(256))])}
    cut = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "pre_tokenizer": cut,
        "model": {"type": "BPE", "vocab": table, "merges": []},
        "decoder": _all(shown, cut),
    }


def _replaced(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _all(*decoders: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "decoders": list(decoders)}


def _unigram(vocabulary: SentencePieceVocabulary, tokens: list[str]) -> dict[str, Any]:
    scores = [[token, vocabulary.score(i)] for i, token in enumerate(tokens)]
    model = {"type": "Unigram", "unk_id": vocabulary.special.unknown, "vocab": scores, "byte_fallback": True}
    first = {"type": "Prepend", "prepend": "▁"}
    back = _replaced({"String": "▁"}, " ")
    return {
        "normalizer": {"type": "Sequence", "normalizers": [first, _replaced({"String": " "}, "▁")]},
        "model": model,
        "decoder": _all(back, {"type": "ByteFallback"}, {"type": "Fuse"}, _FIRST_BLANK),
    }
