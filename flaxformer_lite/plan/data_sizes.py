"""Sizes of vocabularies and batches, from the data or from the config alone."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.buckets import batch_rows
from flaxformer_lite.data.dataset import load_training
from flaxformer_lite.data.vocabularies.build import known_size
from flaxformer_lite.errors import require


class DataSizes(NamedTuple):
    """Sizes of the vocabularies and of the largest batch.

    Attributes:
      source_vocabulary: number of entries.
      target_vocabulary: number of entries.
      source_length: tokens of the longest padded row.
      target_length: tokens of the longest padded row.
      padding: fraction of padding in an epoch; 0 where the data was not read.
      mean: size of the mean batch, padding included, relative to the largest one; 1 where the data was not read.
      origin: description of where the sizes come from.
    """

    source_vocabulary: int
    target_vocabulary: int
    source_length: int
    target_length: int
    padding: float
    mean: float
    origin: str


def sizes_from_config(config: Config, source_vocabulary: int = 0, target_vocabulary: int = 0) -> DataSizes:
    """The sizes without reading the data: rows have the maximum, or packed, lengths of the config.

    Args:
      config: of the run.
      source_vocabulary: number of entries; 0: that of the config.
      target_vocabulary: number of entries; 0: that of the config.

    Raises:
      InputError: the size of a vocabulary is unknown.
    """
    data = config.data
    source = source_vocabulary or known_size(data.source_vocabulary, "config.data.source_vocabulary")
    target = target_vocabulary or known_size(data.target_vocabulary, "config.data.target_vocabulary")
    for side, size in (("source_vocabulary", source), ("target_vocabulary", target)):
        require(bool(size), side, "its size depends on the data", "give its size, such as 32000")
    require(
        source == target or not data.share_vocabulary,
        "config.data.share_vocabulary=True",
        f"requires equal sizes of source_vocabulary ({source:,}) and target_vocabulary ({target:,})",
    )
    length = data.packed_length
    rows = (length, length) if data.pack else (data.max_source_length, data.max_target_length)
    origin = f"given sizes; rows of the {'packed' if data.pack else 'maximum'} lengths of config.data"
    return DataSizes(source, target, rows[0], rows[1], 0.0, 1.0, origin)


def with_rows(config: Config, sizes: DataSizes) -> Config:
    """The config whose ``train.batch_size`` is the number of rows of the largest batch, whatever it follows from."""
    rows = batch_rows(config.train, (sizes.source_length, sizes.target_length))
    train = dataclasses.replace(config.train, batch_size=rows, tokens_per_batch=0)
    return dataclasses.replace(config, train=train)


def sizes_from_data(config: Config) -> DataSizes:
    """The sizes of the training split, which is read.

    Raises:
      InputError: it cannot be read.
    """
    data = load_training(config.data, config.seed)
    buckets = data.train.buckets
    longest = np.array(buckets.shapes).max(0)
    num_rows = sum(len(rows.lengths) for rows in buckets.rows)
    return DataSizes(
        data.source_vocabulary.size,
        data.target_vocabulary.size,
        int(longest[0]),
        int(longest[1]),
        padding=data.train.padding,
        mean=buckets.padded_tokens / (num_rows * int(longest.sum())),
        origin=f"of task {config.data.task}; rows of the longest of {len(buckets.shapes)} padded shapes",
    )
