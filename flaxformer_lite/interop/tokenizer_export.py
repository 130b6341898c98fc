"""Export of vocabularies that training built as ``tokenizer.json``."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from flaxformer_lite.data.vocabularies.base import UNKNOWN_CHARACTER, Vocabulary
from flaxformer_lite.data.vocabularies.byte import ByteVocabulary
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary, WordVocabulary
from flaxformer_lite.data.vocabularies.extended import ExtendedVocabulary, without_extension
from flaxformer_lite.data.vocabularies.integer import IntegerVocabulary
from flaxformer_lite.data.vocabularies.sentencepiece import SentencePieceVocabulary
from flaxformer_lite.interop.special_tokens import SpecialTokenIds
from flaxformer_lite.types import SpecialIds

logger = logging.getLogger(__name__)

_STRIP_FIRST_SPACE = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
_FUSE = {"type": "Fuse"}


def write_tokenizer(vocabularies: tuple[Vocabulary, Vocabulary], special: SpecialTokenIds, target: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, or logs why there is no such tokenizer."""
    source, other = vocabularies
    tokenizer = make_tokenizer_json(source)
    if source.to_json() != other.to_json() or not tokenizer:
        reason = "source and target vocabularies differ" if tokenizer else "there is none of this kind of vocabulary"
        logger.warning(f"no tokenizer.json is written: {reason}")
        return
    names = dict(zip(("pad_token", "eos_token", "bos_token"), _special_tokens(source), strict=True))
    # Special tokens that are spelled in a text are ordinary text.
    names |= {"split_special_tokens": True, "clean_up_tokenization_spaces": False}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | names
    (target / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1) + "\n", "utf-8")
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def make_tokenizer_json(vocabulary: Vocabulary) -> dict[str, Any]:
    """The tokenizer.json of a vocabulary; an empty object where there is none of its kind."""
    base = without_extension(vocabulary)
    special, components = _special_tokens(base), _components(base)
    if not components:
        return {}
    added = [_added_token(i, token, is_special=True) for i, token in enumerate(special)]
    if isinstance(vocabulary, ExtendedVocabulary):
        absorbs_space = bool(vocabulary.special_separator)
        named = enumerate(vocabulary.tokens, start=base.size)
        added += [_added_token(i, token, is_special=False, strip=absorbs_space) for i, token in named]
        if isinstance(base, SentencePieceVocabulary):  # its decoder gives spaces to pieces only
            names = "|".join(map(re.escape, vocabulary.tokens))
            components["decoder"]["decoders"].insert(0, _replace({"Regex": f"^(?=(?:{names})$)"}, "▁"))
    end = {"SpecialToken": {"id": special[1], "type_id": 0}}
    append_end = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, end, {"Sequence": {"id": "B", "type_id": 0}}, end],
        "special_tokens": {special[1]: {"id": special[1], "ids": [1], "tokens": [special[1]]}},
    }
    empty = {"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None}
    return empty | {"added_tokens": added, "post_processor": append_end} | components


def _added_token(i: int, token: str, is_special: bool, strip: bool = False) -> dict[str, Any]:
    matching = {"single_word": False, "lstrip": strip, "rstrip": strip, "normalized": False}
    return {"id": i, "content": token, "special": is_special, **matching}


def _special_tokens(vocabulary: Vocabulary) -> list[str]:
    """The tokens that decoded text omits; it shows the unknown token."""
    return [vocabulary.token(i) for i in range(len(SpecialIds._fields)) if i != vocabulary.special.unknown]


def _components(vocabulary: Vocabulary) -> dict[str, Any]:
    """Normalizer, pre-tokenizer, model and decoder."""
    tokens = [vocabulary.token(i) for i in range(vocabulary.size)]
    unknown = tokens[vocabulary.special.unknown]
    word_level = {"type": "WordLevel", "vocab": {token: i for i, token in enumerate(tokens)}, "unk_token": unknown}
    show_unknown = _replace({"String": unknown}, UNKNOWN_CHARACTER)
    match vocabulary:
        case WordVocabulary() | IntegerVocabulary():
            join = [_replace({"Regex": "^"}, vocabulary.special_separator), _FUSE, _STRIP_FIRST_SPACE]
            split = {"type": "WhitespaceSplit"}
            return {"pre_tokenizer": split, "model": word_level, "decoder": _sequence(show_unknown, *join)}
        case CharacterVocabulary():
            split = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
            return {"pre_tokenizer": split, "model": word_level, "decoder": _sequence(show_unknown, _FUSE)}
        case ByteVocabulary():
            return _byte_level(tokens[: len(SpecialIds._fields)], show_unknown)
        case SentencePieceVocabulary():
            return _pieces(_merges(vocabulary, tokens) if vocabulary.is_bpe else _unigram(vocabulary, tokens))
    return {}


def _byte_level(special: list[str], show_unknown: dict[str, Any]) -> dict[str, Any]:
    """A byte-level BPE without merges; each byte is written as in the tokenizer of GPT-2 (Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    table = {token: i for i, token in enumerate([*special, *(characters[byte] for byte in range(256))])}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "pre_tokenizer": byte_level,
        "model": {"type": "BPE", "vocab": table, "merges": []},
        "decoder": _sequence(show_unknown, byte_level),
    }


def _unigram(vocabulary: SentencePieceVocabulary, tokens: list[str]) -> dict[str, Any]:
    scores = [[token, vocabulary.score(i)] for i, token in enumerate(tokens)]
    return {"type": "Unigram", "unk_id": vocabulary.special.unknown, "vocab": scores, "byte_fallback": True}


def _merges(vocabulary: SentencePieceVocabulary, tokens: list[str]) -> dict[str, Any]:
    """A BPE whose merges are all pairs of pieces that make a piece, in the order of the pieces' ranks."""
    table = {token: i for i, token in enumerate(tokens)}
    special = len(SpecialIds._fields)
    pairs = [
        (-vocabulary.score(i), table[token[:cut]], table[token[cut:]])
        for i, token in enumerate(tokens[special:], start=special)
        if not vocabulary.is_byte(i)
        for cut in range(1, len(token))
        if table.get(token[:cut], 0) >= special and table.get(token[cut:], 0) >= special
    ]
    merges = [[tokens[left], tokens[right]] for _, left, right in sorted(pairs)]
    unknown = tokens[vocabulary.special.unknown]
    return {"type": "BPE", "vocab": table, "merges": merges, "unk_token": unknown, "byte_fallback": True}


def _pieces(model: dict[str, Any]) -> dict[str, Any]:
    to_underline = [{"type": "Prepend", "prepend": "▁"}, _replace({"String": " "}, "▁")]
    to_space = _replace({"String": "▁"}, " ")
    return {
        "normalizer": {"type": "Sequence", "normalizers": to_underline},
        "model": model,
        "decoder": _sequence(to_space, {"type": "ByteFallback"}, _FUSE, _STRIP_FIRST_SPACE),
    }


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _sequence(*decoders: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "decoders": list(decoders)}
