"""Vocabularies as JSON, as work directories keep them."""

from __future__ import annotations

import base64
import binascii
import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

from flaxformer_lite.config.import_path import is_import_path
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.data.vocabularies.byte import ByteVocabulary
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary, WordVocabulary
from flaxformer_lite.data.vocabularies.custom import CustomVocabulary
from flaxformer_lite.data.vocabularies.extended import ExtendedVocabulary
from flaxformer_lite.data.vocabularies.integer import IntegerVocabulary
from flaxformer_lite.data.vocabularies.pretrained import PRETRAINED
from flaxformer_lite.data.vocabularies.sentencepiece import SentencePieceVocabulary
from flaxformer_lite.data.vocabularies.tags import TagVocabulary
from flaxformer_lite.errors import InputError


def from_json(values: dict[str, Any]) -> Vocabulary:
    """Makes the vocabulary whose ``to_json`` gave these values.

    Raises:
      InputError: the values are not those of a vocabulary, or its class cannot be imported.
    """
    try:
        match values:
            case {"kind": "byte"}:
                return ByteVocabulary()
            case {"kind": "character", "entries": entries}:
                return CharacterVocabulary(entries)
            case {"kind": "word", "entries": entries}:
                return WordVocabulary(entries)
            case {"kind": "tags"}:
                return TagVocabulary.from_json(values)
            case {"kind": "ids", "size": int(size)}:
                return IntegerVocabulary(size)
            case {"kind": "extended", "base": {**base}}:
                return ExtendedVocabulary.from_json(from_json(base), values)
            case {"kind": "sentencepiece", "model": model}:
                return SentencePieceVocabulary(base64.b64decode(model, validate=True))
            case {"kind": kind} if kind in PRETRAINED:
                return PRETRAINED[kind].from_json(values)
            case {"kind": str(kind)} if is_import_path(kind):
                return CustomVocabulary.from_json(values)
    except (RuntimeError, TypeError, KeyError, ValueError, binascii.Error) as error:
        raise InputError("the saved vocabulary", f"it is damaged: {error}") from error
    raise InputError("the saved vocabulary", f"this is not a vocabulary: {str(values)[:100]}")


def read_saved(path: Path) -> Vocabulary:
    """Reads a vocabulary file, such as ``source.vocabulary.json`` of a work directory.

    Raises:
      InputError: there is no such file, it is not a vocabulary, or the vocabulary's class cannot be imported.
    """
    try:
        return from_json(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(
            str(path),
            f"it cannot be read as a saved vocabulary ({error})",
            "give the .vocabulary.json file of a work directory; if that was moved, set "
            "config.data.source_vocabulary.model and config.data.target_vocabulary.model to the new path",
        ) from error


def difference(theirs: Vocabulary, ours: Vocabulary) -> str:
    """Describes the first difference between two vocabularies; "" if they are equal."""
    there, here = theirs.to_json(), ours.to_json()
    if there == here:
        return ""
    if isinstance(theirs, ExtendedVocabulary) and isinstance(ours, ExtendedVocabulary):
        tokens = zip_longest(theirs.tokens, ours.tokens)
        differing = [f"special token {one!r} there, {other!r} here" for one, other in tokens if one != other]
        return difference(theirs.base, ours.base) or differing[0]
    if there["kind"] != here["kind"]:
        return f"{there['kind']} there, {here['kind']} here"
    if theirs.size != ours.size:
        return f"{theirs.size:,} entries there, {ours.size:,} here"
    pairs = zip_longest(there.get("entries", ()), here.get("entries", ()))
    if differing := [f"{one!r} there, {other!r} here" for one, other in pairs if one != other]:
        return differing[0]
    if there | {"frame": ""} == here | {"frame": ""}:
        return f"{there['frame']} there, {here['frame']} here"
    return f"another {there['kind']} model"
