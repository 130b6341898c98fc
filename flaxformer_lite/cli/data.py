"""Show the data of a config: splits, vocabularies, lengths, length buckets, and examples as arrays.

Reads the data as training does, without training.

Examples:
  flaxformer-lite data --config=configs/g2p.py
  flaxformer-lite data --config=configs/g2p.py --examples=10 --config.data.max_source_length=12
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex

from flaxformer_lite.cli import config_flags
from flaxformer_lite.errors import require
from flaxformer_lite.system.console import table

if TYPE_CHECKING:
    from flaxformer_lite.config.dataclasses import Config, DataConfig
    from flaxformer_lite.data.batching import OverlengthCounts, Ragged
    from flaxformer_lite.data.pipeline import Dataset
    from flaxformer_lite.data.tasks import Examples
    from flaxformer_lite.data.vocabularies.base import Vocabulary

_MAX_LINE_WIDTH = 100  # characters of a line of arrays
_QUANTILES = {"shortest": 0.0, "median": 0.5, "90 %": 0.9, "99 %": 0.99, "longest": 1.0}


class _Split(NamedTuple):
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
        "--examples",
        type=int,
        default=3,
        metavar="N",
        help="number of training examples to show (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    require(arguments.examples >= 0, f"--examples={arguments.examples}", "must be at least 0")
    config = config_flags.load(arguments)
    for line in _describe(config, arguments.examples):
        print(line)
    return 0


def _describe(config: Config, num_examples: int) -> Iterator[str]:
    from flaxformer_lite.data import pipeline, tasks  # here, because Grain takes seconds to import

    data = config.data
    train_examples, validation_examples = tasks.load_training_splits(data, config.seed)
    vocabularies = _Vocabularies(*pipeline.build_vocabularies(data, train_examples))
    train = _Split(train_examples, *pipeline.make_dataset(train_examples, *vocabularies, data, data.overlength))
    validation = _Split(
        validation_examples, *pipeline.make_dataset(validation_examples, *vocabularies, data, "truncate")
    )
    yield from _describe_splits(data, train, validation)
    yield from _describe_vocabularies(data, vocabularies, train.dataset, validation.dataset)
    yield from _describe_lengths(data, train.dataset)
    yield from _describe_buckets(config, train.dataset)
    sources, targets = train_examples.sample(num_examples).pairs() if num_examples else ([], [])
    for source, target in zip(sources[:num_examples], targets[:num_examples], strict=True):
        yield from _describe_example(source, target, vocabularies, train.dataset, data)


def _describe_splits(data: DataConfig, train: _Split, validation: _Split) -> Iterator[str]:
    yield f"Splits of task {data.task}, in pairs of a source and one of its references"
    yield from table(
        ("", "sources", "pairs", "dropped", "truncated"),
        [
            (
                name,
                f"{len(split.examples):,}",
                f"{split.counts.examples:,}",
                _share(split.counts.dropped, split.counts.examples),
                _share(split.counts.truncated, split.counts.examples),
            )
            for name, split in (("train", train), ("validation", validation))
        ],
    )
    yield f"  Overlong training pairs: {data.overlength} (config.data.overlength). Overlong validation pairs are"
    yield "  truncated for the loss; decoding uses whole sources and references."


def _describe_vocabularies(
    data: DataConfig, vocabularies: _Vocabularies, train: Dataset, validation: Dataset
) -> Iterator[str]:
    yield ""
    yield "Vocabularies" + (", one shared by source and target" if data.share_vocabulary else "")

    def row(name: str, kind: str, vocabulary: Vocabulary, *sides: Ragged) -> tuple[str, ...]:
        unknown = [_share(int((side.ids == vocabulary.special.unknown).sum()), len(side.ids)) for side in sides]
        return (name, kind, f"{vocabulary.size:,}", *unknown)

    yield from table(
        ("", "kind", "entries", "unknown in train", "unknown in validation"),
        [
            row("source", data.source_vocabulary.kind, vocabularies.source, train.source, validation.source),
            row("target", data.target_vocabulary.kind, vocabularies.target, train.target, validation.target),
        ],
    )


def _describe_lengths(data: DataConfig, train: Dataset) -> Iterator[str]:
    import numpy as np

    def row(name: str, side: Ragged, limit: int) -> tuple[str, ...]:
        quantiles = [f"{np.quantile(side.lengths, q, method='higher')}" for q in _QUANTILES.values()]
        return (name, *quantiles, f"{side.lengths.mean():.1f}", str(limit))

    yield ""
    yield "Lengths of training pairs in tokens, special tokens included"
    yield from table(
        ("", *_QUANTILES, "mean", "limit"),
        [row("source", train.source, data.max_source_length), row("target", train.target, data.max_target_length)],
    )


def _describe_buckets(config: Config, train: Dataset) -> Iterator[str]:
    yield ""
    yield f"Length buckets of training: padded shapes of batches of {config.train.batch_size} pairs"
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


def _describe_example(
    source: str, target: str, vocabularies: _Vocabularies, train: Dataset, data: DataConfig
) -> Iterator[str]:
    """One pair as text, as the arrays of its batch, and as decoded text."""
    import numpy as np

    from flaxformer_lite.data import batching

    yield ""
    yield f"Source  {source!r}"
    yield f"Target  {target!r}"
    sources = batching.tokenize(vocabularies.source, [source])
    targets = batching.tokenize(vocabularies.target, [target])
    if sources.lengths[0] > data.max_source_length or targets.lengths[0] > data.max_target_length:
        yield f"  too long with {sources.lengths[0]} and {targets.lengths[0]} tokens: {data.overlength}"
        if data.overlength == "drop":
            return
    sources = batching.truncate(sources, data.max_source_length)
    targets = batching.truncate(targets, data.max_target_length)
    # The first shape that fits is the bucket of the pair: earlier buckets have a shorter maximum of both lengths.
    shape = next(
        (source_length, target_length)
        for source_length, target_length in train.buckets.shapes
        if source_length >= sources.lengths[0] and target_length >= targets.lengths[0]
    )
    batch = batching.make_batch(sources, targets, np.array([0]), shape, train.special)
    for title, vocabulary, tokens in (
        ("source", vocabularies.source, batch.source),
        ("target_in", vocabularies.target, batch.target_in),
    ):
        rows = {"  ids": tokens.ids[0], "  segments": tokens.segments[0], "  positions": tokens.positions[0]}
        yield from _columns({title: _tokens(vocabulary, tokens.ids[0]), **rows})
    weights = [f"{weight:g}" for weight in batch.weights[0]]
    labels = _tokens(vocabularies.target, batch.labels[0])
    yield from _columns({"labels": labels, "  ids": batch.labels[0], "  weights": weights})
    yield f"  Decoded  {vocabularies.source.decode(batch.source.ids[0])!r}"
    yield f"           {vocabularies.target.decode(batch.labels[0])!r}"


def _tokens(vocabulary: Vocabulary, ids: Iterable[SupportsIndex]) -> list[str]:
    """The token of each id with visible spaces and control characters."""
    return [repr(vocabulary.token(i))[1:-1].replace(" ", "␣") for i in ids]


def _columns(rows: Mapping[str, Iterable[object]]) -> Iterator[str]:
    """Rows of equally many values as aligned columns, continued on further lines where a line is full."""
    titles = max(map(len, rows))
    blocks, width = [[f"  {title:<{titles}}" for title in rows]], titles
    for column in zip(*rows.values(), strict=True):
        cells = [str(value) for value in column]
        size = max(map(len, cells))
        if width + size + 1 > _MAX_LINE_WIDTH:
            blocks.append([" " * (titles + 2)] * len(rows))
            width = titles
        width += size + 1
        blocks[-1] = [f"{line} {cell:>{size}}" for line, cell in zip(blocks[-1], cells, strict=True)]
    for block in blocks:
        yield from block


def _share(count: int, of: int) -> str:
    return f"{count:,} ({_percent(count, of)})"


def _percent(count: int, of: int) -> str:
    return f"{100 * count / of:.1f} %"
