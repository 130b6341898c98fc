"""From the files of a published tokenizer to the vocabularies of sources and of targets.

A SentencePiece model is read where there is one, otherwise ``tokenizer.json``. The ids are the publisher's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sentencepiece

from flaxformer_lite.data.vocabularies.pretrained import (
    Added,
    CodedVocabulary,
    Frame,
    OffsetByteVocabulary,
    PieceVocabulary,
    TokenizerVocabulary,
    read_tokenizer,
)
from flaxformer_lite.data.vocabularies.vocabulary import Vocabulary
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.interop import languages
from flaxformer_lite.interop.folder import Folder, bring_again
from flaxformer_lite.interop.roles import Roles
from flaxformer_lite.types import SpecialIds

_BYTES = ("<pad>", "</s>", "<unk>")  # before the bytes of ByT5
_FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")  # before the pieces of models that fairseq trained
_PEGASUS = ("<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{i}>" for i in range(2, 103)))


class Languages(NamedTuple):
    """What ``--source_lang`` and ``--target_lang`` say; "" where nothing is said."""

    source: str
    target: str


class _Told(NamedTuple):
    """What says how to read the files.

    Attributes:
      family: the model's ``model_type``.
      kind: the name of its tokenizer's class; "" where the folder says none.
      settings: its tokenizer_config.json.
    """

    family: str
    kind: str
    settings: dict[str, Any]


_Around = tuple[tuple[int, ...], tuple[int, ...]]  # ids before and behind a text


class _Tokens(NamedTuple):
    """What is in the files.

    Attributes:
      make: a vocabulary of so many ids in a frame.
      ids: of each token that may be asked for by name.
      silent: ids that decoded text leaves out.
      tidy: whether decoded text may lose blanks before punctuation, which the reference does not do to pairs (BPE).
    """

    make: Callable[[int, Frame], Vocabulary]
    ids: dict[str, int]
    silent: tuple[int, ...]
    tidy: bool = True


def read_vocabularies(
    folder: Folder, family: str, roles: Roles, sizes: tuple[int, int], spoken: Languages
) -> tuple[Vocabulary, Vocabulary]:
    """The source and the target vocabulary.

    Args:
      folder: where the files lie.
      family: the model's ``model_type``.
      roles: its special ids.
      sizes: how many ids its encoder and its decoder have.
      spoken: the languages, where the model has to be told.

    Raises:
      InputError: a file is missing or cannot be read, or a language is missing or unknown.
    """
    settings = folder.json("tokenizer_config.json")
    kind = settings.get("tokenizer_class") or folder.config.get("tokenizer_class") or ""
    told = _Told(family, kind, settings)
    if family == "marian":
        found = [_marian(folder, side) for side in ("source", "target")]
    elif kind.startswith("ByT5"):
        found = [_bytes(settings)] * 2
    else:
        found = [_tokens(folder, told)] * 2
    frames = _frames(found, told, _around(folder, told, roles), roles, spoken)
    for tokens, size, frame in zip(found, sizes, frames, strict=True):
        named = {roles.pad, roles.end, *roles.ends, roles.start, *frame.opening, *frame.closing}
        last = max(i for token, i in tokens.ids.items() if token != "<mask>")  # of which BART has no vectors
        require(
            last < size and max(named) < size,
            f"--source={folder.path}: its tokenizer knows ids up to {last}, its special ones reach to {max(named)}, "
            f"and config.json says that the model has {size}; the files are not of one model",
        )
    source, target = (tokens.make(size, frame) for tokens, size, frame in zip(found, sizes, frames, strict=True))
    return source, target


def _tokens(folder: Folder, told: _Told) -> _Tokens:
    """Whatever of the usual files there is."""
    family, kind, settings = told
    models = ("spiece.model", "sentencepiece.bpe.model", "sentencepiece.model", "tokenizer.model")
    name = next(filter(folder.has, models), "")
    if not name or family.startswith("t5gemma"):  # whose tokenizer.json says more than its tokenizer.model
        return _tokenizer_json(folder, settings)
    model = folder.bytes(name)
    pieces = _pieces(model, folder.path / name)
    match family:  # what comes behind the pieces stands in early folders nowhere
        case "t5" | "mt5" | "umt5":
            behind = [f"<extra_id_{i}>" for i in range(settings.get("extra_ids", 100))][::-1]
            entries, behind = pieces, [token for token in behind if token not in pieces]
        case "pegasus":
            entries, behind = [*_PEGASUS, *pieces[2:]], []
        case "mbart":
            codes = languages.MBART50 if "50" in kind else languages.MBART
            entries, behind = [*_FAIRSEQ, *pieces[3:]], [*codes, "<mask>"]
        case "m2m_100" if folder.has("vocab.json"):
            entries, behind = _table(folder, "vocab.json"), languages.M2M100
        case _:
            entries, behind = [*_FAIRSEQ, *pieces[3:]], [*_named(folder, settings), "<mask>"]
    listed = _listed(folder, settings)
    tokens = _of_pieces(model, entries if listed else [*entries, *behind], listed)
    return tokens._replace(tidy=family != "m2m_100" or folder.has("vocab.json"))


def _of_pieces(model: bytes, entries: Sequence[str], listed: Sequence[tuple[Added, bool]]) -> _Tokens:
    """Pieces by a table, and what the folder itself says of added tokens."""
    table = list(entries)
    if listed:
        table += [""] * (max(token.id for token, _ in listed) + 1 - len(table))
        for token, _ in listed:
            table[token.id] = token.text
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    spoken = set(_said(processor))
    added = [token for token, _ in listed] or [
        Added(entry, i, takes_left=entry == "<mask>") for i, entry in enumerate(table) if entry and entry not in spoken
    ]
    silent = {token.id for token, special in listed if special} or {token.id for token in added}

    def make(size: int, frame: Frame) -> Vocabulary:
        return PieceVocabulary(model, table[:size], size, frame, [token for token in added if token.id < size])

    return _Tokens(make, {entry: i for i, entry in enumerate(table) if entry}, tuple(sorted(silent)))


def _marian(folder: Folder, side: str) -> _Tokens:
    """One side's pieces; both sides share a table of ids, or each has its own."""
    name = "target_vocab.json" if side == "target" and folder.has("target_vocab.json") else "vocab.json"
    model, table = folder.bytes(f"{side}.spm"), _table(folder, name)
    _pieces(model, folder.path / f"{side}.spm")
    special = [Added(token, table.index(token)) for token in ("</s>", "<unk>", "<pad>") if token in table]

    def make(size: int, frame: Frame) -> Vocabulary:
        return CodedVocabulary(model, table, size, frame, special)

    silent = tuple(token.id for token in special)
    return _Tokens(make, {entry: i for i, entry in enumerate(table)}, silent)


def _bytes(settings: dict[str, Any]) -> _Tokens:
    """ByT5 (Xue et al. 2021): bytes, and sentinels behind them."""
    extra = [f"<extra_id_{i}>" for i in range(settings.get("extra_ids", 125) or 125)]
    added = [Added(token, i, takes_left=True, takes_right=True) for i, token in enumerate(_BYTES)]
    added += [Added(token, len(_BYTES) + 256 + i) for i, token in enumerate(extra)]

    def make(size: int, frame: Frame) -> Vocabulary:
        return OffsetByteVocabulary(len(_BYTES), size, frame, added)

    return _Tokens(make, {token.text: token.id for token in added}, tuple(token.id for token in added))


def _tokenizer_json(folder: Folder, settings: dict[str, Any]) -> _Tokens:
    if folder.has("tokenizer.json"):
        description = folder.text("tokenizer.json")
    elif folder.has("vocab.json") and folder.has("merges.txt"):
        description = json.dumps(_of_merges(folder, settings), ensure_ascii=False)
    else:
        raise InputError(
            f"--source={folder.path}: there is no tokenizer: neither a SentencePiece model (spiece.model, "
            "sentencepiece.bpe.model, source.spm) nor a tokenizer.json, nor vocab.json and merges.txt; download it too"
        )
    tokenizer = read_tokenizer(description)
    silent = tuple(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)

    def make(size: int, frame: Frame) -> Vocabulary:
        return TokenizerVocabulary(description, size, frame)

    pairs = json.loads(description)["model"].get("type") == "BPE"
    return _Tokens(make, tokenizer.get_vocab(), silent, tidy=not pairs)


def _of_merges(folder: Folder, settings: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer.json that says the same as vocab.json and merges.txt: pairs of bytes, as GPT-2 and BART have."""
    table, lines = folder.json("vocab.json"), folder.text("merges.txt").splitlines()
    listed = _listed(folder, settings)
    listed += [
        (Added(token, table[token], takes_left=token == "<mask>"), True)
        for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
        if token in table and token not in [added.text for added, _ in listed]
    ]
    added = [
        {"id": token.id, "content": token.text, "special": special, "single_word": False, "normalized": False,
         "lstrip": token.takes_left, "rstrip": token.takes_right}
        for token, special in listed
    ]  # fmt: skip
    bytes_ = {"type": "ByteLevel", "add_prefix_space": settings.get("add_prefix_space", False), "trim_offsets": True}
    merges = [line for line in lines if line and not line.startswith("#version")]
    return {
        **{"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None},
        "added_tokens": added,
        "pre_tokenizer": bytes_,
        "decoder": bytes_,
        "model": {"type": "BPE", "vocab": table, "merges": merges},
    }


def _around(folder: Folder, told: _Told, roles: Roles) -> _Around:
    """What the reference's tokenizer puts before and behind the text of a source, but for languages."""
    family, kind, _ = told
    if kind.startswith(("PreTrained", "Tokenizers")) and folder.has("tokenizer.json"):  # which nothing else describes
        tokenizer = read_tokenizer(folder.text("tokenizer.json"))
        text, framed = (tokenizer.encode("a", add_special_tokens=added).ids for added in (False, True))
        start = next(i for i in range(len(framed) + 1) if framed[i : i + len(text)] == text)
        return tuple(framed[:start]), tuple(framed[start + len(text) :])
    if family.startswith("t5gemma"):
        return (roles.begin,), ()
    return (roles.begin,) * (family == "bart" or kind.startswith("Roberta")), (roles.end,)


def _frames(
    sides: Sequence[_Tokens], told: _Told, around: _Around, roles: Roles, spoken: Languages
) -> tuple[Frame, Frame]:
    """What surrounds the texts of each side."""
    family, kind, settings = told
    (opening, closing), end, start = around, (roles.end,), roles.start
    target_opening = roles.forced or (opening if opening != (start,) else ())
    if family in ("mbart", "m2m_100"):
        source, target = (
            _language(tokens, name, side)
            for tokens, name, side in zip(
                sides,
                (spoken.source or settings.get("src_lang"), spoken.target or settings.get("tgt_lang")),
                ("source", "target"),
                strict=True,
            )
        )
        first = "50" in kind or family == "m2m_100"
        last = settings.get("legacy_behaviour", False) or not first
        opening, closing = ((), (*end, source)) if last else ((source,), end)
        target_opening, start = ((), target) if last else ((target,), roles.start)
    elif spoken.source or spoken.target:
        raise InputError(
            f"--source_lang={spoken.source} --target_lang={spoken.target}: this model's tokenizer has no languages"
        )
    unknown = [next((tokens.ids[name] for name in ("<unk>",) if name in tokens.ids), roles.pad) for tokens in sides]
    special = [SpecialIds(roles.pad, roles.end, start, i) for i in unknown]
    tidied = settings.get("clean_up_tokenization_spaces") is True
    return (
        Frame(special[0], opening, closing, sides[0].silent, tidied and sides[0].tidy),
        Frame(special[1], target_opening, end, sides[1].silent, tidied and sides[1].tidy),
    )


def _language(tokens: _Tokens, name: str | None, side: str) -> int:
    """The id of a language, by its token or by what stands within its underscores."""
    names = [token for token, i in tokens.ids.items() if i in tokens.silent and "<" not in token]
    if not name:
        raise InputError(
            f"--{side}_lang=: this model must be told the language of its {side}s: one of {', '.join(names)}"
        )
    for token in (name, f"__{name}__"):
        if token in names:  # and no ordinary token, such as the word en
            return tokens.ids[token]
    near = [token for token in names if token.strip("_")[:2].lower() == name[:2].lower()]
    among = f"the nearest are {', '.join(near)}" if near else f"they are {', '.join(names)}"
    raise InputError(f"--{side}_lang={name}: this is none of the model's {len(names)} languages; {among}")


def _listed(folder: Folder, settings: dict[str, Any]) -> list[tuple[Added, bool]]:
    """Added tokens, and whether they are special, as the folder's own files list them."""
    listed = [(int(i), token) for i, token in settings.get("added_tokens_decoder", {}).items()] or [
        (token["id"], token) for token in folder.json("tokenizer.json").get("added_tokens", [])
    ]
    listed = listed or [(i, {"content": token}) for token, i in folder.json("added_tokens.json").items()]
    return [
        (Added(token["content"], i, token.get("lstrip", False), token.get("rstrip", False)), token.get("special", True))
        for i, token in listed
    ]


def _named(folder: Folder, settings: dict[str, Any]) -> list[str]:
    """Special tokens that the folder names without their ids, which follow on those of the pieces."""
    key = "additional_special_tokens"
    tokens = settings.get(key) or folder.json("special_tokens_map.json").get(key) or []
    return [token["content"] if isinstance(token, dict) else token for token in tokens]


def _table(folder: Folder, name: str) -> list[str]:
    """The tokens of a file ``{token: id}`` in the order of their ids; those of ids that it leaves out are empty."""
    if not folder.has(name):
        raise InputError(f"--source={folder.path}: there is no {name}, which says what id each piece has")
    values = folder.json(name)
    table = [""] * (max(values.values(), default=-1) + 1)
    for token, i in values.items():
        table[i] = token
    return table


def _pieces(model: bytes, path: Path) -> list[str]:
    """All pieces of a SentencePiece model."""
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read as a SentencePiece model; {bring_again(path)}") from error
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


def _said(processor: sentencepiece.SentencePieceProcessor) -> list[str]:
    """The pieces that a text can have."""
    ids = range(processor.get_piece_size())
    return [processor.id_to_piece(i) for i in ids if not (processor.is_control(i) or processor.is_unknown(i))]
