"""Training and evaluation batches through Grain: sharded, shuffled, prefetched, resumable at any step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grain
import numpy as np
from jaxtyping import UInt64

from flaxformer_lite.data.batching import make_batch
from flaxformer_lite.data.dataset import Dataset
from flaxformer_lite.data.ragged import Ragged
from flaxformer_lite.data.shuffle import RowOrder
from flaxformer_lite.data.stateless_random import make_keys
from flaxformer_lite.errors import require
from flaxformer_lite.types import Batch

RowsOf = Callable[[tuple[int, int]], int]  # a padded shape → rows of its batches


def training_batches(
    dataset: Dataset,
    rows_of: RowsOf,
    seed: int,
    process_shard: tuple[int, int],
    prefetch: int,
) -> grain.DatasetIterator[Batch]:
    """Makes infinite training batches. Each has the shape of one bucket; buckets alternate in proportion to their size.

    Batch i depends on the data, ``rows_of``, ``seed`` and i only, and within a bucket no example is repeated before all
    others were used. ``get_state`` and ``set_state`` of the iterator are its position.

    Args:
      dataset: the examples.
      rows_of: the number of rows of a batch of each padded shape, over all processes.
      seed: the seed of the shuffle and of the objective.
      process_shard: (i, n): this process gets the i-th of n contiguous shards of each batch's rows.
      prefetch: the number of batches that a thread prefetches; 0: no thread.

    Raises:
      InputError: the number of processes does not divide the rows of a batch.
    """
    index, count = process_shard
    batch_sizes = [rows_of(shape) for shape in dataset.buckets.shapes]
    orders, num_rows = dataset.row_orders(seed)
    streams = []
    for i, (order, batch_size) in enumerate(zip(orders, batch_sizes, strict=True)):
        require(
            batch_size % count == 0,
            f"config.train.batch_size={batch_size}",
            f"it cannot be divided evenly among {count} processes",
            f"set it to a multiple of {count}",
        )
        size = batch_size // count
        streams.append(_BucketBatches(dataset, i, order, batch_size, slice(index * size, (index + 1) * size)))
    # The number of batches of an epoch, times a constant: 1 where all batches have equally many rows.
    weights = [rows * (max(batch_sizes) / size) for rows, size in zip(num_rows, batch_sizes, strict=True)]
    mixed = grain.MapDataset.mix([grain.MapDataset.source(stream) for stream in streams], weights=weights)
    # One thread makes tens of millions of tokens per second; more would wait for the interpreter lock.
    options = grain.ReadOptions(num_threads=min(prefetch, 1), prefetch_buffer_size=prefetch)
    return iter(mixed.to_iter_dataset(options))


@dataclass(frozen=True)
class _BucketBatches:
    """The rows of one process of the batches of one bucket: a random-access data source for Grain."""

    dataset: Dataset
    bucket: int
    order: RowOrder
    batch_size: int
    shard: slice

    def __len__(self) -> int:
        return 1 << 40  # infinite in practice

    def __getitem__(self, index: int) -> Batch:
        start, stop = (index * self.batch_size + bound for bound in (self.shard.start, self.shard.stop))
        rows = self.dataset.buckets.rows[self.bucket].take(self.order.take(start, stop))
        places = np.repeat(np.arange(start, stop), rows.lengths)
        keys = make_keys(*self.order.seed, places, rows.columns)
        return _make_rows(self.dataset, self.bucket, rows, keys)


def eval_batches(dataset: Dataset, rows_of: RowsOf) -> Iterator[Batch]:
    """Yields every example once, bucket by bucket; rows of padding complete the last batch of a bucket.

    An objective makes the same pairs of them each time.
    """
    for bucket, rows in enumerate(dataset.buckets.rows):
        count, batch_size = len(rows.lengths), rows_of(dataset.buckets.shapes[bucket])
        for start in range(0, count, batch_size):
            indices = np.arange(start, start + batch_size)
            some = rows.take(np.where(indices < count, indices, -1))
            yield _make_rows(dataset, bucket, some, make_keys(0, some.ids))


def _make_rows(dataset: Dataset, bucket: int, rows: Ragged, keys: UInt64[np.ndarray, " n"]) -> Batch:
    """The batch of these rows of a bucket, with one key for each of their examples."""
    pairs = dataset.examples.pairs(rows.ids, keys)
    return make_batch(pairs, rows.lengths, dataset.buckets.shapes[bucket], dataset.special)
