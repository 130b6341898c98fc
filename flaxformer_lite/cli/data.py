"""Show what a model will see of its data: vocabularies, lengths, padded shapes, what is cut, and examples as arrays.

Reads the data just as training does, but trains nothing.

Examples:
  flaxformer-lite data --config=configs/g2p.py
  flaxformer-lite data --config=configs/g2p.py --examples=10 --config.data.max_source_length=12
"""

from __future__ import annotations

import argparse
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex

from flaxformer_lite.cli import config_flags
from flaxformer_lite.config import overrides
from flaxformer_lite.errors import InputError
from flaxformer_lite.system.console import table

if TYPE_CHECKING:
    from flaxformer_lite.config.dataclasses import Config, DataConfig
    from flaxformer_lite.data.features import OverlengthCounts
    from flaxformer_lite.data.pipeline import Dataset
    from flaxformer_lite.data.tasks import Examples
    from flaxformer_lite.data.vocabularies.base import Vocabulary

_WIDTH = 100  # characters of a line of arrays; longer ones are broken
_QUANTILES = {"shortest": 0.0, "median": 0.5, "90 %": 0.9, "99 %": 0.99, "longest": 1.0}


class _Split(NamedTuple):
    """What there is of one split."""

    examples: Examples
    dataset: Dataset
    counts: OverlengthCounts


class _Vocabularies(NamedTuple):
    source: Vocabulary
    target: Vocabulary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``data``."""
    config_flags.add_arguments(parser)
    parser.add_argument(
        "--examples", type=int, default=3, metavar="N", help="training examples to show (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints what the model will see; returns the exit code."""
    if arguments.examples < 0:
        raise InputError(f"--examples={arguments.examples}: give 0 or more")
    config = overrides.load(arguments.config, arguments.overrides)
    for line in _describe(config, arguments.examples):
        print(line)
    return 0


def _describe(config: Config, examples: int) -> Iterator[str]:
    from flaxformer_lite.data import pipeline, tasks  # here, because Grain takes seconds to import

    data = config.data
    validation_examples = tasks.load(data, "validation", config.seed)
    train_examples = tasks.load(data, "train", config.seed)
    vocabularies = _Vocabularies(*pipeline.build_vocabularies(data, train_examples))
    train = _Split(train_examples, *pipeline.make_dataset(train_examples, *vocabularies, data, data.overlength))
    validation = _Split(
        validation_examples, *pipeline.make_dataset(validation_examples, *vocabularies, data, "truncate")
    )
    yield from _splits(data, train, validation)
    yield from _vocabularies(data, vocabularies, train.dataset, validation.dataset)
    yield from _lengths(data, train.dataset)
    yield from _buckets(config, train.dataset)
    sources, targets = train_examples.sample(examples).pairs() if examples else ([], [])
    for source, target in zip(sources[:examples], targets[:examples], strict=True):
        yield from _example(source, target, vocabularies, train.dataset, data)


def _splits(data: DataConfig, train: _Split, validation: _Split) -> Iterator[str]:
    yield f"Splits of task {data.task}, in pairs of a source and one of its references"
    yield from table(
        ("", "sources", "pairs", "dropped", "truncated"),
        [
            (
                name,
                f"{len(split.examples):,}",
                f"{split.counts.examples:,}",
                _part(split.counts.dropped, split.counts.examples),
                _part(split.counts.truncated, split.counts.examples),
            )
            for name, split in (("train", train), ("validation", validation))
        ],
    )
    yield f"  Too long for training: {data.overlength} (config.data.overlength). Validation truncates for its loss,"
    yield "  and decodes everything whole."


def _vocabularies(data: DataConfig, vocabularies: _Vocabularies, train: Dataset, validation: Dataset) -> Iterator[str]:
    yield ""
    yield "Vocabularies" + (", one shared by source and target" if data.share_vocabulary else "")
    yield from table(
        ("", "kind", "entries", "unknown in train", "unknown in validation"),
        [
            (
                name,
                config.kind,
                f"{vocabulary.size:,}",
                *(_part(int((of.ids == vocabulary.special.unknown).sum()), len(of.ids)) for of in ragged),
            )
            for name, config, vocabulary, ragged in (
                ("source", data.source_vocabulary, vocabularies.source, (train.source, validation.source)),
                ("target", data.target_vocabulary, vocabularies.target, (train.target, validation.target)),
            )
        ],
    )


def _lengths(data: DataConfig, train: Dataset) -> Iterator[str]:
    import numpy as np

    yield ""
    yield "Lengths of training in tokens, the end token included"
    yield from table(
        ("", *_QUANTILES, "mean", "limit"),
        [
            (
                name,
                *(f"{np.quantile(ragged.lengths, q, method='higher')}" for q in _QUANTILES.values()),
                f"{ragged.lengths.mean():.1f}",
                str(limit),
            )
            for name, ragged, limit in (
                ("source", train.source, data.max_source_length),
                ("target", train.target, data.max_target_length),
            )
        ],
    )


def _buckets(config: Config, train: Dataset) -> Iterator[str]:
    yield ""
    yield f"Buckets of training: padded shapes of batches of {config.train.batch_size} pairs"
    lengths = train.source.lengths + train.target.lengths
    rows, all_padded = [], 0
    for (source, target), members in zip(train.buckets.shapes, train.buckets.members, strict=True):
        padded = len(members) * (source + target)
        all_padded += padded
        padding = padded - int(lengths[members].sum())
        rows.append((f"{source} + {target}", len(members), padding, padded))
    rows.append(("all", len(lengths), all_padded - int(lengths.sum()), all_padded))
    yield from table(
        ("source + target", "pairs", "of batches", "padding"),
        [
            (shape, f"{pairs:,}", _percent(pairs, len(lengths)), _percent(padding, padded))
            for shape, pairs, padding, padded in rows
        ],
    )


def _example(source: str, target: str, vocabularies: _Vocabularies, train: Dataset, data: DataConfig) -> Iterator[str]:
    """One pair as text, as the arrays of its batch, and as text again."""
    import numpy as np

    from flaxformer_lite.data import features

    yield ""
    yield f"Source  {source!r}"
    yield f"Target  {target!r}"
    sources = features.tokenize(vocabularies.source, [source])
    targets = features.tokenize(vocabularies.target, [target])
    if sources.lengths[0] > data.max_source_length or targets.lengths[0] > data.max_target_length:
        yield f"  too long with {sources.lengths[0]} and {targets.lengths[0]} tokens: {data.overlength}"
        if data.overlength == "drop":
            return
    sources, targets, _, _ = features.limit_lengths(
        sources, targets, data.max_source_length, data.max_target_length, "truncate"
    )
    # The first shape that holds a pair is its bucket's: earlier buckets are for pairs whose longer side is shorter.
    shape = next(
        (source_length, target_length)
        for source_length, target_length in train.buckets.shapes
        if source_length >= sources.lengths[0] and target_length >= targets.lengths[0]
    )
    batch = features.make_batch(sources, targets, np.array([0]), shape, train.special)
    for title, vocabulary, tokens in (
        ("source", vocabularies.source, batch.source),
        ("target_in", vocabularies.target, batch.target_in),
    ):
        yield from _columns(
            {
                title: _names(vocabulary, tokens.ids[0]),
                "  ids": tokens.ids[0],
                "  segments": tokens.segments[0],
                "  positions": tokens.positions[0],
            }
        )
    yield from _columns(
        {
            "labels": _names(vocabularies.target, batch.labels[0]),
            "  ids": batch.labels[0],
            "  weights": [f"{weight:g}" for weight in batch.weights[0]],
        }
    )
    yield f"  Back to text  {vocabularies.source.decode(batch.source.ids[0])!r}"
    yield f"                {vocabularies.target.decode(batch.labels[0])!r}"


def _names(vocabulary: Vocabulary, ids: Iterable[SupportsIndex]) -> list[str]:
    """What each id stands for, blanks and control characters made visible."""
    special = {i: f"<{name}>" for name, i in vocabulary.special._asdict().items()}
    return [special.get(i) or repr(vocabulary.decode([i]))[1:-1].replace(" ", "␣") for i in map(operator.index, ids)]


def _columns(rows: Mapping[str, Iterable[object]]) -> Iterator[str]:
    """Rows of equally many values under one another, broken where a line grows too long."""
    titles = max(map(len, rows))
    blocks, width = [[f"  {title:<{titles}}" for title in rows]], titles
    for column in zip(*rows.values(), strict=True):
        cells = [str(value) for value in column]
        size = max(map(len, cells))
        if width + size + 1 > _WIDTH:
            blocks.append([" " * (titles + 2)] * len(rows))
            width = titles
        width += size + 1
        blocks[-1] = [f"{line} {cell:>{size}}" for line, cell in zip(blocks[-1], cells, strict=True)]
    for block in blocks:
        yield from block


def _part(count: int, of: int) -> str:
    return f"{count:,} ({_percent(count, of)})"


def _percent(count: int, of: int) -> str:
    return f"{100 * count / of:.1f} %"
