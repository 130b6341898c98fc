"""Import of pretrained tokenizers as source and target vocabularies with the publisher's token ids.

A SentencePiece model takes precedence over ``tokenizer.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sentencepiece

from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.data.vocabularies.pretrained import (
    AddedToken,
    ByT5Vocabulary,
    MarianVocabulary,
    PretrainedSentencePieceVocabulary,
    TokenizerJsonVocabulary,
    TokenTemplate,
    read_tokenizer,
)
from flaxformer_lite.data.vocabularies.sentencepiece import text_pieces
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.interop import language_codes
from flaxformer_lite.interop.pretrained_dir import PretrainedDir, download_remedy
from flaxformer_lite.interop.special_tokens import SpecialTokenIds
from flaxformer_lite.types import SpecialIds

_BYT5 = ("<pad>", "</s>", "<unk>")  # before the bytes
_FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")  # before the pieces of models that fairseq trained
_PEGASUS = ("<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{i}>" for i in range(2, 103)))


class LanguagePair(NamedTuple):
    """Language codes of sources and targets; "" where none is given."""

    source: str
    target: str


class _Tokenizer(NamedTuple):
    """How the files of a tokenizer are to be read.

    Attributes:
      directory: contains the files.
      family: the model's ``model_type``.
      kind: the tokenizer's class in transformers; "" if the directory names none.
      settings: the content of tokenizer_config.json.
    """

    directory: PretrainedDir
    family: str
    kind: str
    settings: dict[str, Any]


_Affixes = tuple[tuple[int, ...], tuple[int, ...]]  # ids of the prefix and of the suffix of a text


class _Tokens(NamedTuple):
    """The tokens of one side.

    Attributes:
      make: builds a vocabulary from a number of ids and a template.
      ids: of each token that may be looked up by name.
      special: ids that decoded text omits.
      clean_up: whether decoded text may lose spaces before punctuation; the reference never does so after BPE.
    """

    make: Callable[[int, TokenTemplate], Vocabulary]
    ids: dict[str, int]
    special: tuple[int, ...]
    clean_up: bool = True


def read_vocabularies(
    directory: PretrainedDir, family: str, special: SpecialTokenIds, sizes: tuple[int, int], languages: LanguagePair
) -> tuple[Vocabulary, Vocabulary]:
    """The source and the target vocabulary.

    Args:
      directory: contains the tokenizer's files.
      family: the model's ``model_type``.
      special: its special token ids.
      sizes: number of ids of its encoder and of its decoder.
      languages: required for multilingual models.

    Raises:
      InputError: a file is missing or cannot be read, or a language is missing or unknown.
    """
    settings = directory.json("tokenizer_config.json")
    kind = settings.get("tokenizer_class") or directory.config.get("tokenizer_class") or ""
    tokenizer = _Tokenizer(directory, family, kind, settings)
    if family == "marian":
        sides = [_read_marian(directory, side) for side in ("source", "target")]
    elif kind.startswith("ByT5"):
        sides = [_make_byt5(settings)] * 2
    else:
        sides = [_read_tokens(tokenizer)] * 2
    templates = _make_templates(sides, tokenizer, _source_affixes(tokenizer, special), special, languages)
    for tokens, size, template in zip(sides, sizes, templates, strict=True):
        affixes = (*template.prefix_ids, *template.suffix_ids)
        used = {special.pad, special.eos, *special.extra_eos, special.decoder_start, *affixes}
        last = max(i for token, i in tokens.ids.items() if token != "<mask>")  # BART has no embedding of it
        require(
            last < size and max(used) < size,
            str(directory.path),
            f"the tokenizer has ids up to {last}, the special token ids reach {max(used)}, but by config.json the "
            f"model has {size} ids",
            "download all files of one model",
        )
    source, target = (
        tokens.make(size, template) for tokens, size, template in zip(sides, sizes, templates, strict=True)
    )
    return source, target


def _read_tokens(tokenizer: _Tokenizer) -> _Tokens:
    """The tokens of a SentencePiece model if there is one, otherwise of the other files."""
    directory, family, kind, settings = tokenizer
    models = ("spiece.model", "sentencepiece.bpe.model", "sentencepiece.model", "tokenizer.model")
    name = next(filter(directory.has, models), "")
    if not name or family.startswith("t5gemma"):  # its tokenizer.json has tokens that tokenizer.model lacks
        return _read_tokenizer_json(directory, settings)
    model = directory.bytes(name)
    pieces = _read_pieces(model, directory.path / name)
    match family:  # early directories do not list the tokens after the pieces
        case "t5" | "mt5" | "umt5":
            sentinels = [f"<extra_id_{i}>" for i in range(settings.get("extra_ids", 100))][::-1]
            entries, appended = pieces, [token for token in sentinels if token not in pieces]
        case "pegasus":
            entries, appended = [*_PEGASUS, *pieces[2:]], []
        case "mbart":
            codes = language_codes.MBART50 if "50" in kind else language_codes.MBART
            entries, appended = [*_FAIRSEQ, *pieces[3:]], [*codes, "<mask>"]
        case "m2m_100" if directory.has("vocab.json"):
            entries, appended = _read_table(directory, "vocab.json"), language_codes.M2M100
        case _:
            entries, appended = [*_FAIRSEQ, *pieces[3:]], [*_additional_special_tokens(directory, settings), "<mask>"]
    listed = _added_tokens(directory, settings)
    tokens = _make_piece_tokens(model, entries if listed else [*entries, *appended], listed)
    return tokens._replace(clean_up=family != "m2m_100" or directory.has("vocab.json"))


def _make_piece_tokens(model: bytes, entries: Sequence[str], listed: Sequence[tuple[AddedToken, bool]]) -> _Tokens:
    """The tokens of a SentencePiece model with a table of ids.

    Args:
      model: the serialized model.
      entries: the token of each id.
      listed: the added tokens that the directory lists, and whether they are special.
    """
    table = list(entries)
    if listed:
        table += [""] * (max(token.id for token, _ in listed) + 1 - len(table))
        for token, _ in listed:
            table[token.id] = token.content
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    in_text = {processor.id_to_piece(i) for i in text_pieces(processor)}
    added = [token for token, _ in listed] or [
        AddedToken(entry, i, lstrip=entry == "<mask>")
        for i, entry in enumerate(table)
        if entry and entry not in in_text
    ]
    special = {token.id for token, is_special in listed if is_special} or {token.id for token in added}

    def make(size: int, template: TokenTemplate) -> Vocabulary:
        within = [token for token in added if token.id < size]
        return PretrainedSentencePieceVocabulary(model, table[:size], size, template, within)

    return _Tokens(make, {entry: i for i, entry in enumerate(table) if entry}, tuple(sorted(special)))


def _read_marian(directory: PretrainedDir, side: str) -> _Tokens:
    """The pieces of one side; both sides have the same table of ids, or each its own."""
    name = "target_vocab.json" if side == "target" and directory.has("target_vocab.json") else "vocab.json"
    model, table = directory.bytes(f"{side}.spm"), _read_table(directory, name)
    _read_pieces(model, directory.path / f"{side}.spm")
    special = [AddedToken(token, table.index(token)) for token in ("</s>", "<unk>", "<pad>") if token in table]

    return _Tokens(
        lambda size, template: MarianVocabulary(model, table, size, template, special),
        {entry: i for i, entry in enumerate(table)},
        tuple(token.id for token in special),
    )


def _make_byt5(settings: dict[str, Any]) -> _Tokens:
    """Bytes followed by sentinels (ByT5, Xue et al. 2021)."""
    sentinels = [f"<extra_id_{i}>" for i in range(settings.get("extra_ids", 125) or 125)]
    added = [AddedToken(token, i, lstrip=True, rstrip=True) for i, token in enumerate(_BYT5)]
    added += [AddedToken(token, len(_BYT5) + 256 + i) for i, token in enumerate(sentinels)]
    ids = {token.content: token.id for token in added}
    return _Tokens(lambda size, template: ByT5Vocabulary(len(_BYT5), size, template, added), ids, tuple(ids.values()))


def _read_tokenizer_json(directory: PretrainedDir, settings: dict[str, Any]) -> _Tokens:
    if directory.has("tokenizer.json"):
        description = directory.text("tokenizer.json")
    elif directory.has("vocab.json") and directory.has("merges.txt"):
        description = json.dumps(_byte_level_bpe(directory, settings), ensure_ascii=False)
    else:
        raise InputError(
            str(directory.path),
            "there is no tokenizer: neither a SentencePiece model (spiece.model, sentencepiece.bpe.model, source.spm) "
            "nor tokenizer.json, nor vocab.json with merges.txt",
            "download it too",
        )
    tokenizer = read_tokenizer(description)
    special = tuple(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)
    is_bpe = json.loads(description)["model"].get("type") == "BPE"
    return _Tokens(
        lambda size, template: TokenizerJsonVocabulary(description, size, template),
        tokenizer.get_vocab(),
        special,
        clean_up=not is_bpe,
    )


def _byte_level_bpe(directory: PretrainedDir, settings: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer.json equivalent to vocab.json and merges.txt (byte-level BPE, as in GPT-2 and BART)."""
    table, lines = directory.json("vocab.json"), directory.text("merges.txt").splitlines()
    listed = _added_tokens(directory, settings)
    listed += [
        (AddedToken(token, table[token], lstrip=token == "<mask>"), True)
        for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
        if token in table and token not in [added.content for added, _ in listed]
    ]
    added = [
        {"id": token.id, "content": token.content, "special": special, "single_word": False, "normalized": False,
         "lstrip": token.lstrip, "rstrip": token.rstrip}
        for token, special in listed
    ]  # fmt: skip
    add_prefix_space = settings.get("add_prefix_space", False)
    byte_level = {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True}
    merges = [line for line in lines if line and not line.startswith("#version")]
    return {
        **{"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None},
        "added_tokens": added,
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": table, "merges": merges},
    }


def _source_affixes(tokenizer: _Tokenizer, special: SpecialTokenIds) -> _Affixes:
    """The ids that the reference adds around a source text, except those of languages."""
    directory, family, kind, _ = tokenizer
    if kind.startswith(("PreTrained", "Tokenizers")) and directory.has("tokenizer.json"):  # the only description of it
        reader = read_tokenizer(directory.text("tokenizer.json"))
        text, encoded = (reader.encode("a", add_special_tokens=added).ids for added in (False, True))
        start = next(i for i in range(len(encoded) + 1) if encoded[i : i + len(text)] == text)
        return tuple(encoded[:start]), tuple(encoded[start + len(text) :])
    if family.startswith("t5gemma"):
        return (special.bos,), ()
    return (special.bos,) * (family == "bart" or kind.startswith("Roberta")), (special.eos,)


def _make_templates(
    sides: Sequence[_Tokens],
    tokenizer: _Tokenizer,
    source_affixes: _Affixes,
    special: SpecialTokenIds,
    languages: LanguagePair,
) -> tuple[TokenTemplate, TokenTemplate]:
    """The template of each side."""
    _, family, kind, settings = tokenizer
    (prefix, suffix), end, start = source_affixes, (special.eos,), special.decoder_start
    target_prefix = special.forced_bos or (prefix if prefix != (start,) else ())
    if family in ("mbart", "m2m_100"):
        source = _language_id(sides[0], "source_lang", languages.source or settings.get("src_lang"))
        target = _language_id(sides[1], "target_lang", languages.target or settings.get("tgt_lang"))
        is_prefix = "50" in kind or family == "m2m_100"
        is_suffix = settings.get("legacy_behaviour", False) or not is_prefix
        prefix, suffix = ((), (*end, source)) if is_suffix else ((source,), end)
        target_prefix, start = ((), target) if is_suffix else ((target,), start)
    elif languages.source or languages.target:
        key, name = ("source_lang", languages.source) if languages.source else ("target_lang", languages.target)
        raise InputError(f"{key}={name!r}", "this model's tokenizer has no languages", "leave it out")
    unknown = [tokens.ids.get("<unk>", special.pad) for tokens in sides]
    clean_up = settings.get("clean_up_tokenization_spaces") is True
    source_template, target_template = (
        TokenTemplate(
            SpecialIds(special.pad, special.eos, start, i), *affixes, tokens.special, clean_up and tokens.clean_up
        )
        for i, affixes, tokens in zip(unknown, ((prefix, suffix), (target_prefix, end)), sides, strict=True)
    )
    return source_template, target_template


def _language_id(tokens: _Tokens, argument: str, name: str | None) -> int:
    """The id of a language, by its token with or without surrounding underscores."""
    names = [token for token, i in tokens.ids.items() if i in tokens.special and "<" not in token]
    if not name:
        raise InputError(f"{argument}=''", "this multilingual model needs a language", f"use one of {', '.join(names)}")
    for token in (name, f"__{name}__"):
        if token in names:  # not an ordinary token, such as the word "en"
            return tokens.ids[token]
    nearest = [token for token in names if token.strip("_")[:2].lower() == name[:2].lower()]
    remedy = f"the nearest are {', '.join(nearest)}" if nearest else f"use one of {', '.join(names)}"
    raise InputError(f"{argument}={name!r}", f"is not one of the model's {len(names)} languages", remedy)


def _added_tokens(directory: PretrainedDir, settings: dict[str, Any]) -> list[tuple[AddedToken, bool]]:
    """The added tokens that the directory's files list, and whether they are special."""
    listed = [(int(i), token) for i, token in settings.get("added_tokens_decoder", {}).items()] or [
        (token["id"], token) for token in directory.json("tokenizer.json").get("added_tokens", [])
    ]
    listed = listed or [(i, {"content": token}) for token, i in directory.json("added_tokens.json").items()]
    return [
        (AddedToken(token["content"], i, token.get("lstrip", False), token.get("rstrip", False)), special)
        for i, token in listed
        for special in [token.get("special", True)]
    ]


def _additional_special_tokens(directory: PretrainedDir, settings: dict[str, Any]) -> list[str]:
    """Special tokens that are listed without ids; theirs follow those of the pieces."""
    key = "additional_special_tokens"
    tokens = settings.get(key) or directory.json("special_tokens_map.json").get(key) or []
    return [token["content"] if isinstance(token, dict) else token for token in tokens]


def _read_table(directory: PretrainedDir, name: str) -> list[str]:
    """The tokens of a file ``{token: id}`` in the order of their ids; the token of a missing id is empty."""
    if not directory.has(name):
        raise InputError(str(directory.path), f"there is no {name} with the id of each piece", "download it too")
    values = directory.json(name)
    table = [""] * (max(values.values(), default=-1) + 1)
    for token, i in values.items():
        table[i] = token
    return table


def _read_pieces(model: bytes, path: Path) -> list[str]:
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise InputError(str(path), "cannot be read as a SentencePiece model", download_remedy(path)) from error
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
