"""Datasets: the tokenized training and validation examples of a config, in buckets or packed, with its vocabularies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from flaxformer_lite.config.dataclasses import DataConfig
from flaxformer_lite.config.mixture import components
from flaxformer_lite.data import tasks
from flaxformer_lite.data.batching import OverlengthCounts, limit_lengths, tokenize
from flaxformer_lite.data.buckets import Buckets, choose_buckets
from flaxformer_lite.data.examples import DroppedRows, Examples
from flaxformer_lite.data.mixture import MixedExamples, MixtureShuffle, component_rows, rates_by_size
from flaxformer_lite.data.objectives.base import longest_text
from flaxformer_lite.data.objectives.build import build_objective
from flaxformer_lite.data.objectives.special_tokens import ends_sentence
from flaxformer_lite.data.packing import ONE_PART, pack_into_rows
from flaxformer_lite.data.ragged import Ragged
from flaxformer_lite.data.shuffle import EpochShuffle, RowOrder
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

    def row_orders(self, seed: int) -> tuple[list[RowOrder], list[float]]:
        """Returns the order of the rows of each bucket, and the number of its rows in an epoch."""
        sizes = [len(rows.lengths) for rows in self.buckets.rows]
        return [EpochShuffle(size, (seed, i)) for i, size in enumerate(sizes)], [float(size) for size in sizes]


@dataclass(frozen=True)
class MixedDataset(Dataset):
    """The examples of several tasks, drawn at given rates.

    Attributes:
      examples: those of all tasks.
      rates: of each task.
    """

    examples: MixedExamples
    rates: tuple[float, ...]

    def row_orders(self, seed: int) -> tuple[list[RowOrder], list[float]]:
        rows = component_rows(self.examples, self.buckets)
        wanted = rows * (np.array(self.rates) / rows.sum(axis=0))  # of each bucket and task, per row of the mixture
        pairs = zip(rows, wanted, strict=True)
        orders = [MixtureShuffle(sizes.tolist(), shares, (seed, i)) for i, (sizes, shares) in enumerate(pairs)]
        return list[RowOrder](orders), wanted.sum(axis=1).tolist()


class EvalSet(NamedTuple):
    """The evaluation examples of one task.

    Attributes:
      dataset: for the loss; examples that are too long are truncated.
      examples: the same as text, for decoding.
      is_supervised: whether there are references to compare decoded text with.
    """

    dataset: Dataset
    examples: Examples
    is_supervised: bool


class TrainingData(NamedTuple):
    """What training needs of the data.

    Attributes:
      train: the training split.
      validation: the validation split of each task by its name in the mixture; without a mixture one, named "".
      source_vocabulary: the vocabulary of sources.
      target_vocabulary: the vocabulary of targets; the same object if it is shared.
      counts: examples that were dropped or truncated, by split.
      dropped: rows that could not be used, by split.
    """

    train: Dataset
    validation: dict[str, EvalSet]
    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    counts: dict[str, OverlengthCounts]
    dropped: dict[str, tuple[DroppedRows, ...]]


def load_training(config: DataConfig, seed: int) -> TrainingData:
    """Reads the training and validation splits, builds their vocabularies and tokenizes them.

    Raises:
      InputError: data are missing or invalid; see ``tasks.load``, ``build_vocabulary`` and ``limit_lengths``.
    """
    parts = components(config)
    splits = {name: tasks.load_training_splits(part.data, seed) for name, part in parts.items()}
    texts = training_texts(config, {name: train for name, (train, _) in splits.items()})
    vocabularies = build_vocabularies(config, *texts)
    tokenized, validation, counts, dropped = {}, {}, {}, {}
    for name, (train_examples, examples) in splits.items():
        of = f" of {name}" if name else ""
        data = parts[name].data
        tokenized[name], counts[f"training{of}"] = tokenize_examples(train_examples, vocabularies, data)
        dataset, counts[f"validation{of}"] = make_dataset(examples, vocabularies, for_evaluation(data))
        validation[name] = EvalSet(dataset, examples, data.objective == "supervised")
        dropped |= {f"training{of}": train_examples.dropped, f"validation{of}": examples.dropped}
    train = mix(tokenized, config, vocabularies.target.special)
    return TrainingData(train, validation, *vocabularies, counts, dropped)


def training_texts(config: DataConfig, train: Mapping[str, Examples]) -> tuple[list[str], list[str]]:
    """Returns all sources and all targets that vocabularies are built from.

    Args:
      config: of the data.
      train: the training examples of each component of ``config``.
    """
    sources: list[str] = []
    targets: list[str] = []
    for name, part in components(config).items():
        # Plain text has no references.
        pairs = train[name].pairs() if part.data.objective == "supervised" else (train[name].sources, [])
        sources, targets = sources + pairs[0], targets + pairs[1]
    return sources, targets


def build_vocabularies(config: DataConfig, sources: list[str], targets: list[str]) -> Vocabularies:
    """Builds the source and the target vocabulary of training texts: the same object if they are shared.

    Raises:
      InputError: see ``build_vocabulary``; or saved vocabularies that should be shared have different sizes.
    """
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


def make_dataset(
    examples: Examples, vocabularies: Vocabularies, config: DataConfig
) -> tuple[Dataset, OverlengthCounts]:
    """Tokenizes examples, each source with each of its references, and places them in buckets or packed rows."""
    tokenized, counts = tokenize_examples(examples, vocabularies, config)
    return Dataset(tokenized, make_buckets(tokenized, config), vocabularies.target.special), counts


def make_buckets(examples: Tokenized, config: DataConfig, starts: Int64[np.ndarray, " parts"] = ONE_PART) -> Buckets:
    """Places examples in buckets or packed rows; ``starts``: the first example of each part that is packed alone."""
    lengths = examples.max_lengths()
    if config.pack:
        return pack_into_rows(*lengths, config.packed_length, starts)
    return choose_buckets(*lengths, config.num_buckets)


def mix(parts: Mapping[str, Tokenized], config: DataConfig, special: SpecialIds) -> Dataset:
    """Makes one dataset of the tokenized training examples of each component of a config."""
    given = components(config)
    if not config.mixture:
        return Dataset(parts[""], make_buckets(parts[""], config), special)
    examples = MixedExamples(parts)
    sizes = [len(part.max_lengths()[0]) for part in parts.values()]
    rates = rates_by_size(sizes, [given[name].rate for name in parts], config.mixture_temperature)
    return MixedDataset(examples, make_buckets(examples, config, examples.starts), special, tuple(rates))


def tokenize_examples(
    examples: Examples,
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
