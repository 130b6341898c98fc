"""Tasks: the sources and references of each split, as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Int

from flaxformer_lite.config import import_path
from flaxformer_lite.config.dataclasses import DataConfig, ReverseConfig, TextConfig, TfdsConfig
from flaxformer_lite.data import readers
from flaxformer_lite.errors import InputError, require

Split = Literal["train", "validation", "test"]

_FRACTION_REMEDY = "set config.data.validation_fraction=0.05 to hold out training examples"


@dataclass(frozen=True)
class Examples:
    """Sources with one or more correct references each."""

    sources: list[str]
    references: list[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.sources)

    def pairs(self) -> tuple[list[str], list[str]]:
        """Returns training pairs: each source with each of its references."""
        sources = [source for source, these in zip(self.sources, self.references, strict=True) for _ in these]
        return sources, [reference for these in self.references for reference in these]

    def sample(self, count: int) -> Examples:
        """Returns ``count`` evenly spaced examples, as files are often sorted; all if ``count`` is 0 or too large."""
        return self.take(np.arange(count) * len(self) // count) if 0 < count < len(self) else self

    def take(self, indices: Int[np.ndarray, " n"]) -> Examples:
        """Returns the examples of these indices."""
        return Examples([self.sources[i] for i in indices], [self.references[i] for i in indices])


class Task(Protocol):
    """The interface of ``data.task="module:name"``: a dataclass whose fields are ``data.options``, or a function."""

    def __call__(self, split: str, seed: int) -> Examples | Iterable[tuple[str, str | Sequence[str]]]:
        """Returns the examples of a split: sources, each with a reference or a sequence of references."""
        ...


def load(config: DataConfig, split: Split, seed: int) -> Examples:
    """Reads one split of the configured task.

    Args:
      config: the data to read.
      split: the split.
      seed: the seed of synthetic data.

    Raises:
      InputError: the data are missing, invalid or empty.
    """
    if split == "test" or not _holds_out_validation(config):
        return _read(config, split, seed)
    train, validation = _hold_out(_read(config, "train", seed), config.validation_fraction)
    return train if split == "train" else validation


def load_training_splits(config: DataConfig, seed: int) -> tuple[Examples, Examples]:
    """Reads the training and the validation split.

    Raises:
      InputError: as for ``load``.
    """
    if _holds_out_validation(config):
        return _hold_out(_read(config, "train", seed), config.validation_fraction)
    validation = _read(config, "validation", seed)  # first, because its errors show up faster
    return _read(config, "train", seed), validation


def _read(config: DataConfig, split: Split, seed: int) -> Examples:
    match config.task:
        case "cmudict":
            from flaxformer_lite.data import cmudict  # here, because TFDS takes a second to import

            return Examples(*cmudict.load(config.cmudict, split))
        case "text":
            return _read_text(config.text, split)
        case "tfds":
            return _read_tfds(config.tfds, split)
        case "reverse":
            return _make_reverse(config.reverse, split, seed)
        case _:
            return _read_custom(config, split, seed)


def _holds_out_validation(config: DataConfig) -> bool:
    """Whether the validation split consists of training examples."""
    if config.validation_fraction == 0:
        return False
    if config.task == "text":
        return not _is_given(config.text.validation)
    if config.task == "tfds":
        from flaxformer_lite.data import tfds

        splits = tfds.open_builder(config.tfds.name, config.tfds.data_dir).info.splits
        require(
            "validation" not in splits,
            f"config.data.validation_fraction={config.validation_fraction}",
            f"config.data.tfds.name={config.tfds.name!r} has a validation split",
            "set it to 0",
        )
    return True


def _hold_out(examples: Examples, fraction: float) -> tuple[Examples, Examples]:
    """Divides examples into training and validation examples; the latter are evenly spaced.

    Depends on the number of examples only, so all seeds and processes have the same split.
    """
    counts = np.floor(np.arange(len(examples) + 1) * fraction)
    held_out = np.diff(counts) > 0
    count = int(held_out.sum())
    require(
        0 < count < len(examples),
        f"config.data.validation_fraction={fraction}",
        f"it divides {len(examples)} examples into {len(examples) - count} for training and {count} for validation",
        "change it so that both have some",
    )
    return examples.take(np.flatnonzero(~held_out)), examples.take(np.flatnonzero(held_out))


def _is_given(files: tuple[str, ...]) -> bool:
    return bool(files) and "" not in files


def _read_text(config: TextConfig, split: Split) -> Examples:
    files = {"train": config.train, "validation": config.validation, "test": config.test}[split]
    subject = f"config.data.text.{split}={files}"
    remedy = "give ('source file', 'target file') or ('file.tsv',)"
    if split == "validation":
        remedy += f", or {_FRACTION_REMEDY}"
    require(_is_given(files), subject, "is not set", remedy)
    require(
        len(files) <= 2, subject, f"must be two parallel files or one of tab-separated columns, not {len(files)} files"
    )
    examples = _group_references(readers.read_tsv(files[0])) if len(files) == 1 else _read_parallel(*files)
    require(len(examples) > 0, subject, "is empty")
    return examples


def _read_parallel(source_file: str, target_file: str) -> Examples:
    sources, targets = readers.read_lines(source_file), readers.read_lines(target_file)
    require(
        len(sources) == len(targets),
        f"{source_file}, {target_file}",
        f"have {len(sources)} and {len(targets)} lines",
        "line i of one must be the translation of line i of the other",
    )
    return Examples(sources, [(target,) for target in targets])


def _group_references(pairs: Iterable[tuple[str, str]]) -> Examples:
    """Makes pairs with the same source references of one example, at the place of the first of them."""
    references: dict[str, list[str]] = {}
    for source, target in pairs:
        references.setdefault(source, []).append(target)
    return Examples(list(references), [tuple(these) for these in references.values()])


def _read_tfds(config: TfdsConfig, split: Split) -> Examples:
    from flaxformer_lite.data import tfds  # here, because TFDS takes a second to import

    subject = f"config.data.tfds.name={config.name!r}"
    builder = tfds.open_builder(config.name, config.data_dir)
    require(
        split in builder.info.splits,
        subject,
        f"it has no split {split!r}; its splits are {', '.join(builder.info.splits)}",
        _FRACTION_REMEDY if split == "validation" else "",
    )
    features = (config.source_feature, config.target_feature)
    sources, targets = tfds.read_texts(builder, split, features)
    require(len(sources) > 0, subject, f"its {split} split is empty")
    for i, (source, references) in enumerate(zip(sources, targets, strict=True)):
        require(
            len(source) == 1 and len(references) > 0,
            subject,
            f"example {i} of its {split} split has {len(source)} texts in feature {features[0]!r} and "
            f"{len(references)} in {features[1]!r}; one source and at least one reference are needed",
        )
    return Examples([source for (source,) in sources], targets)


def _make_reverse(config: ReverseConfig, split: Split, seed: int) -> Examples:
    """Strings of uniformly distributed lengths and letters; each split has its own seed.

    So a short string, of which there are few, is in several splits, a long one almost never.
    """
    require(bool(config.alphabet), "config.data.reverse.alphabet=''", "has no letters")
    random = np.random.default_rng([seed, ("train", "validation", "test").index(split)])
    count = config.examples if split == "train" else config.examples // 10
    lengths = random.integers(config.min_length, config.max_length, size=count, endpoint=True)
    ends = np.cumsum(lengths)
    letters = "".join(config.alphabet[i] for i in random.integers(len(config.alphabet), size=ends[-1]))
    sources = [letters[end - length : end] for length, end in zip(lengths, ends, strict=True)]
    return Examples(sources, [(source[::-1],) for source in sources])


def _read_custom(config: DataConfig, split: Split, seed: int) -> Examples:
    task: Task = import_path.build(config.task, config.options, "data.task")
    subject = f"config.data.task={config.task!r}"
    found = task(split, seed)
    if not isinstance(found, Examples):
        pairs = [_check_pair(pair, f"{subject}: example {i} of split {split!r}") for i, pair in enumerate(found)]
        found = Examples([source for source, _ in pairs], [references for _, references in pairs])
    require(len(found) > 0, subject, f"its {split} split is empty", _FRACTION_REMEDY if split == "validation" else "")
    return found


def _check_pair(pair: Any, subject: str) -> tuple[str, tuple[str, ...]]:
    match pair:
        case (str(source), str(reference)):
            return source, (reference,)
        case (str(source), [_, *_] as references) if all(isinstance(reference, str) for reference in references):
            return source, tuple(references)
    raise InputError(subject, f"must be a source and its references, all of them strings, got {pair!r}")
