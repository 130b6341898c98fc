"""Sizes of vocabularies and batches, from the data or from the config alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from flaxformer_lite.config.dataclasses import Config, VocabularyConfig
from flaxformer_lite.data import pipeline, tasks
from flaxformer_lite.data.vocabularies.saved import read_saved
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
    """The sizes without reading the data: rows have the maximum lengths of the config.

    Args:
      config: of the run.
      source_vocabulary: number of entries; 0: that of the config.
      target_vocabulary: number of entries; 0: that of the config.

    Raises:
      InputError: the size of a vocabulary is unknown.
    """
    data = config.data
    source = source_vocabulary or _vocabulary_size(data.source_vocabulary)
    target = target_vocabulary or _vocabulary_size(data.target_vocabulary)
    for side, size in (("source_vocabulary", source), ("target_vocabulary", target)):
        require(bool(size), side, "its size depends on the data", "give its size, such as 32000")
    require(
        source == target or not data.share_vocabulary,
        "config.data.share_vocabulary=True",
        f"requires equal sizes of source_vocabulary ({source:,}) and target_vocabulary ({target:,})",
    )
    origin = "given sizes; rows of the maximum lengths of config.data"
    return DataSizes(source, target, data.max_source_length, data.max_target_length, 0.0, 1.0, origin)


def _vocabulary_size(config: VocabularyConfig) -> int:
    """The number of entries; 0 where it depends on the data."""
    return read_saved(Path(config.model).expanduser()).size if config.kind == "saved" else config.size


def sizes_from_data(config: Config) -> DataSizes:
    """The sizes of the training split, which is read.

    Raises:
      InputError: it cannot be read.
    """
    examples = tasks.load(config.data, "train", config.seed)
    source, target = pipeline.build_vocabularies(config.data, examples)
    dataset, _ = pipeline.make_dataset(examples, source, target, config.data, config.data.overlength)
    shapes = np.array(dataset.buckets.shapes)
    rows = np.array([len(members) for members in dataset.buckets.members])
    padded_tokens = int(rows @ shapes.sum(1))
    tokens = len(dataset.source.ids) + len(dataset.target.ids)
    longest = shapes.max(0)
    return DataSizes(
        source.size,
        target.size,
        int(longest[0]),
        int(longest[1]),
        padding=1 - tokens / padded_tokens,
        mean=padded_tokens / (int(rows.sum()) * int(longest.sum())),
        origin=f"of task {config.data.task}; rows of the longest of {len(shapes)} padded shapes",
    )
