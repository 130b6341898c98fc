"""Build the vocabularies of a config from its training split, save them and describe how they split it.

Writes NAME.vocabulary.json of a shared vocabulary, otherwise NAME.source.vocabulary.json and
NAME.target.vocabulary.json. A run uses one with --config.data.source_vocabulary.kind=saved and
--config.data.source_vocabulary.model=FILE. A SentencePiece model is written as NAME.model too, without the special
tokens that the config adds.

Examples:
  flaxformer-lite vocab --config=text --config.data.text.train=train.de,train.en --output=vocabularies/de-en
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flaxformer_lite.cli import config_flags, output
from flaxformer_lite.errors import require
from flaxformer_lite.system.atomic import atomic_write
from flaxformer_lite.system.console import table

if TYPE_CHECKING:
    from flaxformer_lite.config.dataclasses import Config
    from flaxformer_lite.data.vocabularies.base import Vocabulary
    from flaxformer_lite.data.vocabularies.sentencepiece import SentencePieceVocabulary
    from flaxformer_lite.data.vocabularies.statistics import VocabularyStatistics

logger = logging.getLogger(__name__)

_SUFFIX = ".vocabulary.json"


class _Side(NamedTuple):
    name: str  # source, target or shared
    vocabulary: Vocabulary
    texts: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``vocab``."""
    config_flags.add_arguments(parser)
    parser.add_argument("--output", required=True, metavar="NAME", help="beginning of the names of the files to write")
    parser.add_argument(
        "--top", type=int, default=10, metavar="N", help="number of most frequent tokens to show (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    require(arguments.top >= 0, f"--top={arguments.top}", "must be at least 0")
    name = arguments.output.removesuffix(_SUFFIX)
    require(Path(name).name not in ("", ".."), f"--output={arguments.output}", "is a directory", "name a file in it")
    output.check_writable(name + _SUFFIX)
    config = config_flags.load(arguments)
    sides = _build(config)
    for side in sides:
        _write(side.vocabulary, name if len(sides) == 1 else f"{name}.{side.name}")
    for line in _describe(sides, arguments.top):
        print(line)


def _build(config: Config) -> list[_Side]:
    """The vocabularies with the text that each was built from."""
    from flaxformer_lite.config.mixture import components
    from flaxformer_lite.data import dataset, tasks  # here, because they take time to import

    parts = components(config.data)
    train = {name: tasks.load(part.data, "train", config.seed) for name, part in parts.items()}
    sources, targets = dataset.training_texts(config.data, train)
    source, target = dataset.build_vocabularies(config.data, sources, targets)
    if source is target:
        return [_Side("shared", source, sources + targets)]
    return [_Side("source", source, sources), _Side("target", target, targets)]


def _write(vocabulary: Vocabulary, name: str) -> None:
    from flaxformer_lite.data.vocabularies.extended import without_extension
    from flaxformer_lite.data.vocabularies.sentencepiece import SentencePieceVocabulary

    output.write(name + _SUFFIX, [json.dumps(vocabulary.to_json(), ensure_ascii=False, indent=2), "\n"])
    logger.info(f"wrote {name}{_SUFFIX}")
    base = without_extension(vocabulary)
    if isinstance(base, SentencePieceVocabulary):
        with atomic_write(Path(f"{name}.model")) as draft:
            draft.write_bytes(base.model)
        logger.info(f"wrote {name}.model")


def _describe(sides: list[_Side], num_top: int) -> Iterator[str]:
    from flaxformer_lite.data.vocabularies.statistics import measure

    found = [measure(side.vocabulary, side.texts, num_top) for side in sides]
    lines = " and ".join(
        f"{statistics.lines:,} of {len(side.texts):,}" for side, statistics in zip(sides, found, strict=True)
    )
    yield f"Vocabularies, measured on {lines} lines of the training split, evenly spread"
    yield from table(
        ("", "entries", "special tokens", "tokens per character", "tokens per word", "unknown"),
        [
            (
                side.name,
                f"{side.vocabulary.size:,}",
                f"{len(side.vocabulary.special_tokens):,}",
                f"{statistics.tokens / max(statistics.characters, 1):.3f}",
                f"{statistics.tokens / max(statistics.words, 1):.2f}",
                f"{statistics.unknown:,} ({statistics.unknown / max(statistics.tokens, 1):.2%})",
            )
            for side, statistics in zip(sides, found, strict=True)
        ],
    )
    for side, statistics in zip(sides, found, strict=True):
        yield from _describe_top(side, statistics)


def _describe_top(side: _Side, statistics: VocabularyStatistics) -> Iterator[str]:
    """The most frequent tokens; those of a unigram model have a probability too."""
    from flaxformer_lite.data.vocabularies.extended import without_extension
    from flaxformer_lite.data.vocabularies.sentencepiece import SentencePieceVocabulary

    base = without_extension(side.vocabulary)
    unigram = base if isinstance(base, SentencePieceVocabulary) and not base.is_bpe else None
    if not statistics.top:
        return
    yield ""
    yield f"Most frequent tokens, {side.name}"
    yield from table(
        ("token", "of all tokens", *["probability"] * bool(unigram)),
        [
            (
                repr(side.vocabulary.token(i))[1:-1].replace(" ", "␣"),
                f"{share:.2%}",
                *([_probability(unigram, i)] if unigram else []),
            )
            for i, share in statistics.top
        ],
    )


def _probability(unigram: SentencePieceVocabulary, i: int) -> str:
    """The probability of a piece in the model; special ids and bytes have none."""
    has_none = i in unigram.special or i >= unigram.size or unigram.is_byte(i)
    return "" if has_none else f"{math.exp(unigram.score(i)):.4f}"
