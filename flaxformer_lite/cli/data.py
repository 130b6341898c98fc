"""Show the data of a config: splits, vocabularies, lengths, length buckets, and examples as arrays.

Reads the data as training does, without training.

Examples:
  flaxformer-lite data --config=configs/g2p.py
  flaxformer-lite data --config=configs/g2p.py --examples=10 --config.data.max_source_length=12
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, SupportsIndex

from flaxformer_lite.cli import config_flags
from flaxformer_lite.errors import require
from flaxformer_lite.system.console import table

if TYPE_CHECKING:
    from flaxformer_lite.config.dataclasses import Config, DataConfig
    from flaxformer_lite.data.dataset import Dataset, TrainingData
    from flaxformer_lite.data.vocabularies.base import Vocabulary

_MAX_LINE_WIDTH = 100  # characters of a line of arrays
_QUANTILES = {"shortest": 0.0, "median": 0.5, "90 %": 0.9, "99 %": 0.99, "longest": 1.0}


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
    from flaxformer_lite.data.dataset import load_training  # here, because --help does not need it

    data = load_training(config.data, config.seed)
    yield from _describe_splits(config.data, data)
    yield from _describe_vocabularies(config.data, data)
    yield from _describe_lengths(config.data, data.train)
    yield from _describe_buckets(config, data.train)
    for row in range(num_examples):
        yield from _describe_row(row, num_examples, data)


def _describe_splits(config: DataConfig, data: TrainingData) -> Iterator[str]:
    yield f"Splits of {f'task {config.task}' if not config.mixture else 'a mixture'}, in pairs or texts"
    rows = [
        (name, f"{counts.examples:,}", *(_share(count, counts.examples) for count in counts[1:]))
        for name, counts in data.counts.items()
    ]
    yield from table(("", "examples", "dropped", "truncated", "split"), rows)
    for name, dropped in data.dropped.items():
        yield from (f"  {name}: {rows} (config.data.on_bad_row)" for rows in dropped)
    yield f"  Overlong training examples: {config.overlength} (config.data.overlength). Overlong validation pairs are"
    yield "  truncated for the loss; decoding uses whole sources and references."


def _describe_vocabularies(config: DataConfig, data: TrainingData) -> Iterator[str]:
    yield ""
    yield "Vocabularies" + (", one shared by source and target" if config.share_vocabulary else "")
    validation = {
        f"{name}/{side}" if name else side: rows
        for name, each in data.validation.items()
        for side, rows in each.dataset.examples.arrays.items()
    }

    def row(side: str) -> tuple[str, ...]:
        name = "target" if side.endswith("target") else "source"
        vocabulary, kind = getattr(data, f"{name}_vocabulary"), getattr(config, f"{name}_vocabulary").kind
        ids = data.train.examples.arrays[side].ids, validation[side].ids
        unknown = [_share(int((these == vocabulary.special.unknown).sum()), len(these)) for these in ids]
        return (side, kind, f"{vocabulary.size:,}", *unknown)

    yield from table(
        ("", "kind", "entries", "unknown in train", "unknown in validation"),
        [row(side) for side in data.train.examples.arrays],
    )


def _describe_lengths(data: DataConfig, train: Dataset) -> Iterator[str]:
    import numpy as np

    def row(name: str, lengths: np.ndarray, limit: int) -> tuple[str, ...]:
        quantiles = [f"{np.quantile(lengths, q, method='higher')}" for q in _QUANTILES.values()]
        return (name, *quantiles, f"{lengths.mean():.1f}", str(limit))

    yield ""
    yield "Lengths of training pairs in tokens, special tokens included"
    source, target = train.examples.max_lengths()
    yield from table(
        ("", *_QUANTILES, "mean", "limit"),
        [row("source", source, data.max_source_length), row("target", target, data.max_target_length)],
    )


def _describe_buckets(config: Config, train: Dataset) -> Iterator[str]:
    from flaxformer_lite.data.buckets import batch_rows

    yield ""
    kind = "Packed rows" if config.data.pack else "Length buckets"
    yield f"{kind} of training: padded shapes, and the padding of an epoch"
    source, target = train.examples.max_lengths()
    lengths, buckets = source + target, train.buckets
    rows = []
    for shape, of in zip(buckets.shapes, buckets.rows, strict=True):
        padded = len(of.lengths) * sum(shape)
        padding = padded - int(lengths[of.ids].sum())
        rows.append((f"{shape[0]} + {shape[1]}", batch_rows(config.train, shape), len(of.ids), padding, padded))
    rows.append(("all", "", len(lengths), buckets.padded_tokens - int(lengths.sum()), buckets.padded_tokens))
    yield from table(
        ("source + target", "rows of a batch", "pairs", "", "padding"),
        [
            (shape, str(batch), f"{pairs:,}", _percent(pairs, len(lengths)), _percent(padding, padded))
            for shape, batch, pairs, padding, padded in rows
        ],
    )


def _describe_row(number: int, of: int, data: TrainingData) -> Iterator[str]:
    """One of ``of`` rows, evenly spaced over the buckets, as the arrays of its batch and as decoded text."""
    import numpy as np

    from flaxformer_lite.data.batching import make_batch
    from flaxformer_lite.data.stateless_random import make_keys

    train, buckets = data.train, data.train.buckets
    sizes = np.array([len(rows.lengths) for rows in buckets.rows])
    place = number * int(sizes.sum()) // of
    bucket = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
    row = buckets.rows[bucket].take(np.array([place - int(sizes[:bucket].sum())]))
    pairs = train.examples.pairs(row.ids, make_keys(0, row.ids))
    batch = make_batch(pairs, row.lengths, buckets.shapes[bucket], train.special)
    yield ""
    for title, vocabulary, tokens in (
        ("source", data.source_vocabulary, batch.source),
        ("target_in", data.target_vocabulary, batch.target_in),
    ):
        rows = {"  ids": tokens.ids[0], "  segments": tokens.segments[0], "  positions": tokens.positions[0]}
        yield from _columns({title: _tokens(vocabulary, tokens.ids[0]), **rows})
    weights = [f"{weight:g}" for weight in batch.weights[0]]
    labels = _tokens(data.target_vocabulary, batch.labels[0])
    yield from _columns({"labels": labels, "  ids": batch.labels[0], "  weights": weights})
    for i in range(len(row.ids)):
        source, target = (side.take(np.array([i])).ids for side in pairs)
        yield f"  Decoded  {data.source_vocabulary.decode(source)!r}"
        yield f"           {data.target_vocabulary.decode(target)!r}"


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
