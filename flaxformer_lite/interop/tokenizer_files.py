"""The vocabularies that training makes, as a ``tokenizer.json`` that others read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flaxformer_lite.data.vocabulary import (
    ByteVocabulary,
    CharacterVocabulary,
    SentencePieceVocabulary,
    Vocabulary,
    WordVocabulary,
)
from flaxformer_lite.interop.roles import Roles
from flaxformer_lite.say import say
from flaxformer_lite.types import SpecialIds


def write_tokenizer(vocabularies: tuple[Vocabulary, Vocabulary], roles: Roles, target: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, or says why there are none."""
    source, other = vocabularies
    described = describe(source)
    if source.to_json() != other.to_json() or not described:
        why = "sources and targets have two vocabularies" if described else "this vocabulary is of another kind"
        say(f"no tokenizer is written: a tokenizer.json is one vocabulary of pieces, words or characters, and {why}")
        return
    names = dict(zip(("pad_token", "eos_token", "bos_token", "unk_token"), _special(source), strict=True))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | names
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
    return [vocabulary.token(i) for i in range(len(SpecialIds._fields))]


def _parts(vocabulary: Vocabulary) -> dict[str, Any]:
    """How text is cut, what the pieces are called, and how they become text again."""
    tokens = [vocabulary.token(i) for i in range(vocabulary.size)]
    table = {token: i for i, token in enumerate(tokens)}
    unknown = tokens[vocabulary.special.unknown]
    match vocabulary:
        case WordVocabulary():
            model = {"type": "WordLevel", "vocab": table, "unk_token": unknown}
            return {"pre_tokenizer": {"type": "WhitespaceSplit"}, "model": model, "decoder": None}
        case CharacterVocabulary():
            model = {"type": "WordLevel", "vocab": table, "unk_token": unknown}
            cut = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
            return {"pre_tokenizer": cut, "model": model, "decoder": {"type": "Fuse"}}
        case ByteVocabulary():
            return {}
        case SentencePieceVocabulary():
            return _unigram(vocabulary, tokens)
    return {}


def _unigram(vocabulary: SentencePieceVocabulary, tokens: list[str]) -> dict[str, Any]:
    scores = [[token, vocabulary.score(i)] for i, token in enumerate(tokens)]
    model = {"type": "Unigram", "unk_id": vocabulary.special.unknown, "vocab": scores, "byte_fallback": True}
    blank = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    first = {"type": "Prepend", "prepend": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return {
        "normalizer": {"type": "Sequence", "normalizers": [first, blank]},
        "model": model,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]},
    }
