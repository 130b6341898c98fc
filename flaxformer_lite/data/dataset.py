"""Datasets: the tokenized training and validation examples of a config, in buckets or packed, with its vocabularies."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from flaxformer_lite.config.dataclasses import DataConfig
from flaxformer_lite.data import tasks
from flaxformer_lite.data.batching import OverlengthCounts, limit_lengths, tokenize
from flaxformer_lite.data.buckets import Buckets, choose_buckets
from flaxformer_lite.data.examples import DroppedRows
from flaxformer_lite.data.objectives.base import longest_text
from flaxformer_lite.data.objectives.build import build_objective
from flaxformer_lite.data.objectives.special_tokens import ends_sentence
from flaxformer_lite.data.packing import pack_into_rows
from flaxformer_lite.data.ragged import Ragged
from flaxformer_lite.data.tokenized import (
    Affixes,
    SampledPairs,
    SampledTexts,
    Tokenized,
    TokenizedPairs,
    TokenizedTexts,
)
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.data.vocabularies.build import build_vocabulary
from flaxformer_lite.data.vocabularies.subword_sampling import make_sampler
from flaxformer_lite.data.windows import split_windows
from flaxformer_lite.errors import require
from flaxformer_lite.types import SpecialIds


class Vocabularies(NamedTuple):
    """The vocabularies of sources and targets; the same object if it is shared."""

    source: Vocabulary
    target: Vocabulary


@dataclass(frozen=True)
class Dataset:
    """Tokenized examples with the padded rows that they are placed in.

    Attributes:
      examples: by index.
      buckets: the padded shapes and their rows.
      special: the special ids of the target vocabulary.
    """

    examples: Tokenized
    buckets: Buckets
    special: SpecialIds

    @property
    def num_examples(self) -> int:
        return sum(len(rows.ids) for rows in self.buckets.rows)

    @property
    def padding(self) -> float:
        """The fraction of padding in an epoch; at least, where an objective makes pairs of different lengths."""
        source, target = self.examples.max_lengths()
        return 1 - int(source.sum() + target.sum()) / self.buckets.padded_tokens


class TrainingData(NamedTuple):
    """What training needs of the data.

    Attributes:
      train: the training split.
      validation: the validation split, for its loss; examples that are too long are truncated.
      validation_examples: the whole validation split as text, for decoding.
      source_vocabulary: the vocabulary of sources.
      target_vocabulary: the vocabulary of targets; the same object if it is shared.
      train_counts: how many training examples were dropped or truncated.
      validation_counts: the same of validation examples.
      train_dropped: rows of training data that could not be used; those of validation are in ``validation_examples``.
    """

    train: Dataset
    validation: Dataset
    validation_examples: tasks.Examples
    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    train_counts: OverlengthCounts
    validation_counts: OverlengthCounts
    train_dropped: tuple[DroppedRows, ...]


def load_training(config: DataConfig, seed: int) -> TrainingData:
    """Reads the training and validation splits, builds their vocabularies and tokenizes them.

    Raises:
      InputError: data are missing or invalid; see ``tasks.load``, ``build_vocabulary`` and ``limit_lengths``.
    """
    examples, validation_examples = tasks.load_training_splits(config, seed)
    vocabularies = build_vocabularies(config, examples)
    train, train_counts = make_dataset(examples, vocabularies, config)
    validation, validation_counts = make_dataset(validation_examples, vocabularies, for_evaluation(config))
    counts = train_counts, validation_counts
    return TrainingData(train, validation, validation_examples, *vocabularies, *counts, examples.dropped)


def build_vocabularies(config: DataConfig, examples: tasks.Examples) -> Vocabularies:
    """Builds the source and the target vocabulary of examples: the same object if they are shared.

    Raises:
      InputError: see ``build_vocabulary``; or saved vocabularies that should be shared have different sizes.
    """
    sources, targets = vocabulary_texts(config, examples)
    keys = ("config.data.source_vocabulary", "config.data.target_vocabulary")
    if config.share_vocabulary and config.source_vocabulary == config.target_vocabulary:
        shared = build_vocabulary(config.source_vocabulary, sources + targets, keys[0])
        return Vocabularies(shared, shared)
    source = build_vocabulary(config.source_vocabulary, sources, keys[0])
    target = build_vocabulary(config.target_vocabulary, targets, keys[1])
    require(
        not config.share_vocabulary or source.size == target.size,
        "config.data.share_vocabulary=True",
        f"{keys[0]}.model={config.source_vocabulary.model!r} has {source.size:,} entries and "
        f"{keys[1]}.model={config.target_vocabulary.model!r} {target.size:,}",
    )
    return Vocabularies(source, target)


def vocabulary_texts(config: DataConfig, examples: tasks.Examples) -> tuple[list[str], list[str]]:
    """The sources and the targets that vocabularies are built from; plain text for an objective has no targets."""
    return examples.pairs() if config.objective == "supervised" else (examples.sources, [])


def make_dataset(
    examples: tasks.Examples,
    vocabularies: Vocabularies,
    config: DataConfig,
) -> tuple[Dataset, OverlengthCounts]:
    """Tokenizes examples, each source with each of its references, and places them in buckets or packed rows."""
    tokenized, counts = tokenize_examples(examples, vocabularies, config)
    lengths = tokenized.max_lengths()
    if config.pack:
        buckets = pack_into_rows(*lengths, config.packed_length)
    else:
        buckets = choose_buckets(*lengths, config.num_buckets)
    return Dataset(tokenized, buckets, vocabularies.target.special), counts


def tokenize_examples(
    examples: tasks.Examples,
    vocabularies: Vocabularies,
    config: DataConfig,
) -> tuple[Tokenized, OverlengthCounts]:
    """Tokenizes examples and limits their lengths.

    Raises:
      InputError: no example is left, or the vocabulary lacks special tokens of the objective.
    """
    limits = config.max_source_length, config.max_target_length
    if config.objective == "supervised":
        sources, targets = examples.pairs()
        sides = tokenize(vocabularies.source, sources), tokenize(vocabularies.target, targets)
        *pair, kept, counts = limit_lengths(*sides, *limits, truncate=config.overlength == "truncate")
        return _with_sampling(TokenizedPairs(*pair), (sources, targets), kept, vocabularies, config), counts
    objective = build_objective(config, vocabularies.source)
    source, target = (Affixes(side.prefix_ids, side.suffix_ids) for side in vocabularies)
    longest = longest_text(objective, limits[0] - source.size, limits[1] - target.size)
    texts = tokenize(vocabularies.source, examples.sources, affixes=False)
    texts, counts = _limit_texts(texts, longest, vocabularies.source, config)
    return TokenizedTexts(texts, objective, source, target), counts


def _with_sampling(
    pairs: TokenizedPairs,
    texts: tuple[list[str], list[str]],
    kept: Int64[np.ndarray, " kept"],
    vocabularies: Vocabularies,
    config: DataConfig,
) -> Tokenized:
    """Adds subword sampling of the sides for which it is configured."""
    strengths = config.source_subword_sampling, config.target_subword_sampling
    limits = config.max_source_length, config.max_target_length
    sides = []
    for name, vocabulary, side, strength, limit in zip(
        ("source", "target"), vocabularies, texts, strengths, limits, strict=True
    ):
        sampler = make_sampler(vocabulary, strength, f"config.data.{name}_subword_sampling") if strength else None
        affixes = Affixes(vocabulary.prefix_ids, vocabulary.suffix_ids)
        sides.append(SampledTexts([side[i] for i in kept], affixes, sampler, limit) if sampler else None)
    return SampledPairs(pairs, *sides) if any(sides) else pairs


def _limit_texts(
    texts: Ragged, longest: int, vocabulary: Vocabulary, config: DataConfig
) -> tuple[Ragged, OverlengthCounts]:
    """Drops, truncates or splits the texts that are longer than ``longest``; drops empty ones."""
    count, texts = len(texts.lengths), texts.take(np.flatnonzero(texts.lengths > 0))
    num_overlong, num_empty = int((texts.lengths > longest).sum()), count - len(texts.lengths)
    limits = f"config.data.max_source_length={config.max_source_length}, config.data.max_target_length="
    limits += str(config.max_target_length)
    require(longest > 1, limits, f"no text fits with config.data.objective={config.objective!r}", "raise these")
    match config.overlength:
        case "split":
            reason = f"must be less than the longest text that fits, {longest} tokens"
            require(config.window_overlap < longest, f"config.data.window_overlap={config.window_overlap}", reason)
            ends = ends_sentence(vocabulary)[texts.ids] if config.split_at_sentences else np.ones(len(texts.ids), bool)
            counts = OverlengthCounts(count, num_empty, 0, num_overlong)
            texts = split_windows(texts, longest, config.window_overlap, ends)
        case "truncate":
            texts, counts = texts.truncate(longest), OverlengthCounts(count, num_empty, num_overlong)
        case _:
            texts = texts.take(np.flatnonzero(texts.lengths <= longest))
            counts = OverlengthCounts(count, num_empty + num_overlong, 0)
    reason = f"every one of {count} texts is empty or longer than {longest} tokens"
    require(len(texts.lengths) > 0, limits, reason, "raise these, or set config.data.overlength='split'")
    return texts, counts


def for_evaluation(config: DataConfig) -> DataConfig:
    """The same data settings, except that no example is dropped for its length, and that no segmentation is sampled."""
    config = dataclasses.replace(config, source_subword_sampling=0.0, target_subword_sampling=0.0)
    return dataclasses.replace(config, overlength="truncate") if config.overlength == "drop" else config
