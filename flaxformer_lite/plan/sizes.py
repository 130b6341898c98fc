"""What a plan must know of the data: sizes of vocabularies and batches."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from flaxformer_lite.config.dataclasses import Config, VocabularyConfig
from flaxformer_lite.data import pipeline, tasks
from flaxformer_lite.data.vocabularies.saved import read_saved
from flaxformer_lite.errors import InputError


class Sizes(NamedTuple):
    """Sizes of vocabularies and of the largest batch.

    Attributes:
      source_vocabulary: entries.
      target_vocabulary: entries.
      source_length: tokens of the longest padded row.
      target_length: the same of targets.
      padding: share of all places of an epoch that hold no token; 0 where the data was not read.
      mean: tokens of a mean batch, padding included, over those of the largest one; 1 where the data was not read.
      origin: where these figures come from, in words.
    """

    source_vocabulary: int
    target_vocabulary: int
    source_length: int
    target_length: int
    padding: float
    mean: float
    origin: str


def given_sizes(config: Config, source_vocabulary: int, target_vocabulary: int) -> Sizes:
    """Vocabularies as somebody says, rows as long as the config allows.

    Args:
      config: of the run.
      source_vocabulary: entries; 0: as the config says.
      target_vocabulary: the same.

    Raises:
      InputError: nobody says how large a vocabulary is.
    """
    data = config.data
    source = source_vocabulary or _size(data.source_vocabulary)
    target = target_vocabulary or _size(data.target_vocabulary)
    for side, size in (("source", source), ("target", target)):
        if not size:
            raise InputError(f"how large is the {side} vocabulary? Say --{side}_vocabulary=32000, or such")
    if data.share_vocabulary and source != target:
        raise InputError(
            f"config.data.share_vocabulary=True is one vocabulary, but the source's has {source:,} entries and the "
            f"target's {target:,}; give --source_vocabulary and --target_vocabulary the same size"
        )
    origin = "as given; rows as long as config.data allows"
    return Sizes(source, target, data.max_source_length, data.max_target_length, 0.0, 1.0, origin)


def _size(config: VocabularyConfig) -> int:
    """Entries of a vocabulary that need not be made of the data; 0: as many as those give."""
    return read_saved(Path(config.model).expanduser()).size if config.kind == "saved" else config.size


def read_sizes(config: Config) -> Sizes:
    """The sizes that training would find; reads the training split.

    Raises:
      InputError: it cannot be read.
    """
    examples = tasks.load(config.data, "train", config.seed)
    source, target = pipeline.build_vocabularies(config.data, examples)
    dataset, _ = pipeline.make_dataset(examples, source, target, config.data, config.data.overlength)
    shapes = np.array(dataset.buckets.shapes)
    rows = np.array([len(members) for members in dataset.buckets.members])
    places = int(rows @ shapes.sum(1))
    tokens = len(dataset.source.ids) + len(dataset.target.ids)
    longest = shapes.max(0)
    return Sizes(
        source.size,
        target.size,
        int(longest[0]),
        int(longest[1]),
        padding=1 - tokens / places,
        mean=places / (int(rows.sum()) * int(longest.sum())),
        origin=f"of task {config.data.task}; rows of the longest of {len(shapes)} padded shapes",
    )
