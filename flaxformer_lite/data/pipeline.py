"""Batches of training and evaluation, by Grain: sharded, shuffled, made ahead, resumable at any step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import grain
import numpy as np

from flaxformer_lite.config import DataConfig
from flaxformer_lite.data import tasks, vocabulary
from flaxformer_lite.data.buckets import Buckets, choose_buckets
from flaxformer_lite.data.features import FitCounts, Ragged, cut_batch, fit, tokenise
from flaxformer_lite.data.vocabulary import Vocabulary
from flaxformer_lite.errors import InputError
from flaxformer_lite.types import Batch, SpecialIds


@dataclass(frozen=True)
class Dataset:
    """Tokenised examples, sorted into buckets of one padded shape each.

    Attributes:
      source: the sources, each closed by the end token.
      target: their targets, alike.
      buckets: the padded shapes and their members.
      special: the special ids of both.
    """

    source: Ragged
    target: Ragged
    buckets: Buckets
    special: SpecialIds

    def batches(
        self, batch_size: int, seed: int, process_index: int, process_count: int, prefetch: int
    ) -> grain.DatasetIterator[Batch]:
        """Endless training batches. Each has one bucket's shape; buckets take turns in proportion to their sizes.

        Batch i is a function of the data, ``batch_size``, ``seed`` and i alone, and within a bucket no example comes
        again before all others have. ``get_state`` and ``set_state`` of the iterator are its position.

        Args:
          batch_size: rows of a batch over all processes.
          seed: of the order.
          process_index: which process this is. It gets its share of each batch's rows: those of process 0 first, then
            those of process 1, and so on.
          process_count: the number of processes.
          prefetch: batches made ahead in a thread; 0: none.

        Raises:
          InputError: the rows cannot be shared out evenly.
        """
        if batch_size % process_count:
            raise InputError(
                f"config.train.batch_size={batch_size} cannot be shared evenly by {process_count} processes; "
                f"set it to a multiple of {process_count}"
            )
        rows = batch_size // process_count
        streams = []
        for bucket, members in enumerate(self.buckets.members):
            # Grain shuffles epoch e with seed + e, so plain seed + bucket would give buckets one another's orders.
            bucket_seed = int(np.random.SeedSequence([seed, bucket]).generate_state(1)[0])
            shares = grain.MapDataset.range(len(members)).shuffle(seed=bucket_seed).repeat()
            shares = shares.batch(rows, batch_fn=np.asarray)[process_index::process_count]
            streams.append(shares.map(_Cutter(self, bucket)))
        mixed = grain.MapDataset.mix(streams, weights=[len(members) for members in self.buckets.members])
        # One thread makes several million tokens a second; more would only wait for one another.
        options = grain.ReadOptions(num_threads=min(prefetch, 1), prefetch_buffer_size=prefetch)
        return iter(mixed.to_iter_dataset(options))


@dataclass(frozen=True)
class _Cutter:
    """Makes places within a bucket a batch."""

    dataset: Dataset
    bucket: int

    def __call__(self, places: np.ndarray) -> Batch:
        data, buckets = self.dataset, self.dataset.buckets
        indices = buckets.members[self.bucket][places]
        return cut_batch(data.source, data.target, indices, buckets.shapes[self.bucket], data.special)


def eval_batches(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    """Every example once, bucket by bucket. The last batch of a bucket is filled up with rows of padding alone."""
    for shape, members in zip(dataset.buckets.shapes, dataset.buckets.members, strict=True):
        for start in range(0, len(members), batch_size):
            rows = members[start : start + batch_size]
            rows = np.pad(rows, (0, batch_size - len(rows)), constant_values=-1)
            yield cut_batch(dataset.source, dataset.target, rows, shape, dataset.special)


@dataclass(frozen=True)
class Prepared:
    """All that training needs of the data.

    Attributes:
      train: what to learn from.
      validation: the same for the validation loss; examples that are too long are truncated there.
      validation_examples: the whole validation split as text, for decoding.
      source_vocabulary: built from the training sources.
      target_vocabulary: built from the training targets; the same object where it is shared.
      train_counts: how many training examples were dropped or truncated.
      validation_counts: the same of validation.
    """

    train: Dataset
    validation: Dataset
    validation_examples: tasks.Examples
    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    train_counts: FitCounts
    validation_counts: FitCounts


def load_training(config: DataConfig, seed: int) -> Prepared:
    """Reads the training and validation splits and makes vocabularies and datasets of them.

    Raises:
      InputError: something is wrong with the data; see ``tasks.load``, ``vocabulary.build`` and ``features.fit``.
    """
    validation_examples = tasks.load(config, "validation", seed)  # first: its errors should not wait for training's
    examples = tasks.load(config, "train", seed)
    source, target = build_vocabularies(config, examples)
    train, train_counts = make_dataset(examples, source, target, config, config.overlong)
    validation, validation_counts = make_dataset(validation_examples, source, target, config, "truncate")
    return Prepared(train, validation, validation_examples, source, target, train_counts, validation_counts)


def build_vocabularies(config: DataConfig, examples: tasks.Examples) -> tuple[Vocabulary, Vocabulary]:
    """The source and the target vocabulary of these examples: one object twice if they share it."""
    sources, targets = examples.pairs()
    if config.share_vocabulary:
        shared = vocabulary.build(config.source_vocabulary, sources + targets)
        return shared, shared
    return vocabulary.build(config.source_vocabulary, sources), vocabulary.build(config.target_vocabulary, targets)


def make_dataset(
    examples: tasks.Examples,
    source_vocabulary: Vocabulary,
    target_vocabulary: Vocabulary,
    config: DataConfig,
    overlong: Literal["drop", "truncate"],
) -> tuple[Dataset, FitCounts]:
    """Tokenises examples, each source with each of its references, and sorts them into buckets."""
    sources, targets = examples.pairs()
    source, target, _, counts = fit(
        tokenise(source_vocabulary, sources),
        tokenise(target_vocabulary, targets),
        config.max_source_length,
        config.max_target_length,
        overlong,
    )
    buckets = choose_buckets(source.lengths, target.lengths, config.buckets)
    return Dataset(source, target, buckets, target_vocabulary.special), counts
