"""From the files of a published tokenizer to the vocabularies of sources and of targets.

A SentencePiece model is read where there is one, otherwise ``tokenizer.json``. The ids are the publisher's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import sentencepiece

from flaxformer_lite.data.published import (
    Added,
    Frame,
    OffsetByteVocabulary,
    PieceVocabulary,
    TokenizerVocabulary,
    read_tokenizer,
)
from flaxformer_lite.data.vocabulary import Vocabulary
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.interop import languages
from flaxformer_lite.interop.folder import Folder
from flaxformer_lite.interop.roles import Roles
from flaxformer_lite.types import SpecialIds

_BYTES = ("<pad>", "</s>", "<unk>")  # before the bytes of ByT5
_FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")  # before the pieces of models that fairseq trained
_PEGASUS = ("<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{i}>" for i in range(2, 103)))


class Languages(NamedTuple):
    """What ``--source_lang`` and ``--target_lang`` say; "" where nothing is said."""

    source: str
    target: str


class _Tokens(NamedTuple):
    """What is in the files.

    Attributes:
      make: a vocabulary of so many ids in a frame.
      ids: of each token that may be asked for by name.
      added: tokens that are found in text first.
      silent: ids that decoded text leaves out.
    """

    make: Callable[[int, Frame], Vocabulary]
    ids: dict[str, int]
    silent: tuple[int, ...]


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
    if family == "marian":
        found = [_marian(folder, side) for side in ("source", "target")]
    elif kind.startswith("ByT5"):
        found = [_bytes(settings)] * 2
    else:
        found = [_tokens(folder, family, settings)] * 2
    frames = _frames(found, family, roles, settings, spoken)
    for tokens, size, frame in zip(found, sizes, frames, strict=True):
        named = {roles.pad, roles.end, roles.start, *frame.opening, *frame.closing}
        require(
            max(tokens.ids.values()) < size and max(named) < size,
            f"--source={folder.path}: its tokenizer knows ids up to {max(tokens.ids.values())}, its special ones reach "
            f"to {max(named)}, and config.json says that the model has {size}; the files are not of one model",
        )
    source, target = (tokens.make(size, frame) for tokens, size, frame in zip(found, sizes, frames, strict=True))
    return source, target


def _tokens(folder: Folder, family: str, settings: dict[str, Any]) -> _Tokens:
    """Whatever of the usual files there is."""
    models = ("spiece.model", "sentencepiece.bpe.model", "sentencepiece.model", "tokenizer.model")
    name = next(filter(folder.has, models), "")
    if not name or family.startswith("t5gemma"):  # whose tokenizer.json says more than its tokenizer.model
        return _tokenizer_json(folder)
    model = folder.bytes(name)
    pieces = _pieces(model, str(folder.path / name))
    match family:
        case "t5" | "mt5" | "umt5":
            extra = [f"<extra_id_{i}>" for i in range(settings.get("extra_ids", 100))][::-1]
            entries = pieces + [token for token in extra if token not in pieces]
        case "pegasus":
            entries = [*_PEGASUS, *pieces[2:]]
        case "mbart":
            fifty = "50" in settings.get("tokenizer_class", "")
            entries = [*_FAIRSEQ, *pieces[3:], *(languages.MBART50 if fifty else languages.MBART), "<mask>"]
        case "m2m_100" if folder.has("vocab.json"):
            table = _table(folder, "vocab.json")
            entries = [*table, *languages.M2M100]
        case _:
            entries = [*_FAIRSEQ, *pieces[3:]]
    return _of_pieces(model, entries, _listed(folder, settings))


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
        return PieceVocabulary(model, table, size, frame, added)

    return _Tokens(make, {entry: i for i, entry in enumerate(table) if entry}, tuple(sorted(silent)))


def _marian(folder: Folder, side: str) -> _Tokens:
    """One side's pieces; both sides share a table of ids, or each has its own."""
    name = "target_vocab.json" if side == "target" and folder.has("target_vocab.json") else "vocab.json"
    model, table = folder.bytes(f"{side}.spm"), _table(folder, name)
    _pieces(model, str(folder.path / f"{side}.spm"))
    special = [Added(token, table.index(token)) for token in ("</s>", "<unk>", "<pad>") if token in table]
    codes = [Added(token, i) for i, token in enumerate(table) if token.startswith(">>") and token.endswith("<<")]

    def make(size: int, frame: Frame) -> Vocabulary:
        return PieceVocabulary(model, table, size, frame, special + codes)

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


def _tokenizer_json(folder: Folder) -> _Tokens:
    if not folder.has("tokenizer.json"):
        raise InputError(
            f"--source={folder.path}: there is no tokenizer: neither a SentencePiece model (spiece.model, "
            "sentencepiece.bpe.model, source.spm) nor a tokenizer.json; download it too"
        )
    description = folder.text("tokenizer.json")
    tokenizer = read_tokenizer(description)
    silent = tuple(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)

    def make(size: int, frame: Frame) -> Vocabulary:
        return TokenizerVocabulary(description, size, frame)

    return _Tokens(make, tokenizer.get_vocab(), silent)


def _frames(
    sides: Sequence[_Tokens], family: str, roles: Roles, settings: dict[str, Any], spoken: Languages
) -> tuple[Frame, Frame]:
    """What surrounds the texts of each side."""
    end = (roles.end,)
    opening, closing, target_opening, start = (), end, roles.forced, roles.start
    if family == "bart":
        opening = target_opening = (roles.begin,)
    elif family.startswith("t5gemma"):
        opening, closing = (roles.begin,), ()
    elif family in ("mbart", "m2m_100"):
        source, target = (
            _language(tokens, name, side)
            for tokens, name, side in zip(
                sides,
                (spoken.source or settings.get("src_lang"), spoken.target or settings.get("tgt_lang")),
                ("source", "target"),
                strict=True,
            )
        )
        last = settings.get("legacy_behaviour", False) or settings.get("tokenizer_class", "").startswith(
            ("MBartTokenizer",)
        )
        opening, closing = ((), (*end, source)) if last else ((source,), end)
        target_opening, start = ((), target) if last else ((target,), roles.start)
    elif spoken.source or spoken.target:
        raise InputError(
            f"--source_lang={spoken.source} --target_lang={spoken.target}: this model's tokenizer has no languages"
        )
    unknown = [next((tokens.ids[name] for name in ("<unk>",) if name in tokens.ids), roles.pad) for tokens in sides]
    special = [SpecialIds(roles.pad, roles.end, start, i) for i in unknown]
    return (
        Frame(special[0], opening, closing, sides[0].silent),
        Frame(special[1], target_opening, end, sides[1].silent),
    )


def _language(tokens: _Tokens, name: str | None, side: str) -> int:
    """The id of a language, by its token or by what stands within its underscores."""
    if name:
        for token in (name, f"__{name}__"):
            if token in tokens.ids:
                return tokens.ids[token]
    known = sorted(tokens.ids[token] for token in tokens.ids if tokens.ids[token] in tokens.silent)
    names = [token for token in tokens.ids if tokens.ids[token] in known and "<" not in token]
    raise InputError(
        f"--{side}_lang={name or ''}: this model must be told the language of its {side}s: one of {', '.join(names)}"
    )


def _listed(folder: Folder, settings: dict[str, Any]) -> list[tuple[Added, bool]]:
    """Added tokens, and whether they are special, as the folder's own files list them."""
    listed = [(int(i), token) for i, token in settings.get("added_tokens_decoder", {}).items()] or [
        (token["id"], token) for token in folder.json("tokenizer.json").get("added_tokens", [])
    ]
    return [
        (Added(token["content"], i, token.get("lstrip", False), token.get("rstrip", False)), token.get("special", True))
        for i, token in listed
    ]


def _table(folder: Folder, name: str) -> list[str]:
    """The tokens of a file ``{token: id}`` in the order of their ids; those of ids that it leaves out are empty."""
    if not folder.has(name):
        raise InputError(f"--source={folder.path}: there is no {name}, which says what id each piece has")
    values = folder.json(name)
    table = [""] * (max(values.values(), default=-1) + 1)
    for token, i in values.items():
        table[i] = token
    return table


def _pieces(model: bytes, path: str) -> list[str]:
    """All pieces of a SentencePiece model."""
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read as a SentencePiece model: {error}") from error
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


def _said(processor: sentencepiece.SentencePieceProcessor) -> list[str]:
    """The pieces that a text can have."""
    ids = range(processor.get_piece_size())
    return [processor.id_to_piece(i) for i in ids if not (processor.is_control(i) or processor.is_unknown(i))]
