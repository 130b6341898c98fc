"""Vocabularies of ``tokenizer.json`` files of Hugging Face, with the ids of the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flaxformer_lite.data.vocabularies.pretrained import TokenizerJsonVocabulary, TokenTemplate, read_tokenizer
from flaxformer_lite.errors import InputError
from flaxformer_lite.types import SpecialIds

# The names of special tokens where no tokenizer_config.json beside the file names them.
_USUAL_NAMES = {
    "pad_token": ("<pad>", "[PAD]", "<|pad|>"),
    "eos_token": ("</s>", "<eos>", "[EOS]", "<end>", "<|endoftext|>", "[SEP]"),
    "bos_token": ("<s>", "<bos>", "[BOS]", "<begin>", "[CLS]"),
    "unk_token": ("<unk>", "[UNK]", "<unknown>"),
}


def read_tokenizer_file(path: Path, subject: str) -> TokenizerJsonVocabulary:
    """Reads a ``tokenizer.json`` as a vocabulary.

    Its special tokens are those of the ``tokenizer_config.json`` in the same directory, otherwise those with the usual
    names. Padding and end get new ids after the others where there are none; the begin id is then that of padding, as
    in T5, and so is the unknown id. The file's post-processor is not used: texts are between prefix and suffix ids.

    Raises:
      InputError: the file cannot be read, or the package ``tokenizers`` is not installed; ``subject`` names it.
    """
    try:
        description = path.read_text("utf-8")
        config = path.with_name("tokenizer_config.json")
        settings = json.loads(config.read_text("utf-8")) if config.is_file() else {}
    except (OSError, ValueError) as error:
        raise InputError(subject, f"it cannot be read: {error}", "name a tokenizer.json") from error
    try:
        tokenizer = read_tokenizer(description)
    except InputError as error:
        raise error.with_subject(subject) from error
    ids = tokenizer.get_vocab()
    size = max(ids.values(), default=-1) + 1
    pad, end, begin, unknown = (_find(ids, settings.get(key), names) for key, names in _USUAL_NAMES.items())
    if pad is None:
        pad, size = size, size + 1
    if end is None:
        end, size = size, size + 1
    special = SpecialIds(pad, end, pad if begin is None else begin, pad if unknown is None else unknown)
    return TokenizerJsonVocabulary(description, size, TokenTemplate(special, (), (end,), ()))


def _find(ids: dict[str, int], named: Any, names: tuple[str, ...]) -> int | None:
    """The id of a special token; None if there is none."""
    content = named.get("content") if isinstance(named, dict) else named
    return next((ids[name] for name in (content, *names) if name in ids), None)
