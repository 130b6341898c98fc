"""Tasks: the sources and references of each split, as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from flaxformer_lite.config import import_path
from flaxformer_lite.config.dataclasses import DataConfig, ReverseConfig, TfdsConfig
from flaxformer_lite.data import hf, text
from flaxformer_lite.data.examples import Examples
from flaxformer_lite.data.rows import BadRows
from flaxformer_lite.errors import InputError, require

Split = Literal["train", "validation", "test"]

_FRACTION_REMEDY = "set config.data.validation_fraction=0.05 to hold out training examples"


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
        return _preprocess(_read(config, split, seed), config)
    train, validation = _hold_out(_read(config, "train", seed), config.validation_fraction)
    return _preprocess(train if split == "train" else validation, config)


def load_training_splits(config: DataConfig, seed: int) -> tuple[Examples, Examples]:
    """Reads the training and the validation split.

    Raises:
      InputError: as for ``load``.
    """
    if _holds_out_validation(config):
        train, validation = _hold_out(_read(config, "train", seed), config.validation_fraction)
    else:
        validation = _read(config, "validation", seed)  # first, because its errors show up faster
        train = _read(config, "train", seed)
    return _preprocess(train, config), _preprocess(validation, config)


def _preprocess(examples: Examples, config: DataConfig) -> Examples:
    """Applies ``data.preprocess``, then puts ``data.source_prefix`` before each source."""
    if config.preprocess != "none":
        function: Any = import_path.build(config.preprocess, config.preprocess_options, "data.preprocess")
        made, subject = function(examples), f"config.data.preprocess={config.preprocess!r}"
        require(isinstance(made, Examples), subject, f"must return Examples, got {type(made).__name__}")
        require(len(made) > 0, subject, f"left no example of {len(examples)}")
        examples = made
    if not config.source_prefix:
        return examples
    return dataclasses.replace(examples, sources=[config.source_prefix + source for source in examples.sources])


def _read(config: DataConfig, split: Split, seed: int) -> Examples:
    match config.task:
        case "cmudict":
            from flaxformer_lite.data import cmudict  # here, because TFDS takes a second to import

            return Examples(*cmudict.load(config.cmudict, split))
        case "text":
            return _read_text(config, split)
        case "tfds":
            return _read_tfds(config.tfds, split)
        case "hf":
            return _read_hf(config, split)
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
    if config.task in ("tfds", "hf"):
        require(
            "validation" not in _split_names(config),
            f"config.data.validation_fraction={config.validation_fraction}",
            f"the data set of config.data.{config.task} has a validation split",
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
    train, validation = (examples.take(np.flatnonzero(chosen)) for chosen in (~held_out, held_out))
    return dataclasses.replace(train, dropped=examples.dropped), validation


def _is_given(files: tuple[str, ...]) -> bool:
    return bool(files) and "" not in files


def _read_text(config: DataConfig, split: Split) -> Examples:
    files = {"train": config.text.train, "validation": config.text.validation, "test": config.text.test}[split]
    subject = f"config.data.text.{split}={files}"
    remedy = "give ('source file', 'target file') or ('file.tsv',)"
    if split == "validation":
        remedy += f", or {_FRACTION_REMEDY}"
    require(_is_given(files), subject, "is not set", remedy)
    is_supervised = config.objective == "supervised"
    found = text.find_files(config.text, files, subject, with_targets=is_supervised)
    examples = text.read(found, BadRows(config.on_bad_row), config.text.group_references)
    _check_not_empty(examples, subject)
    require(
        bool(found.columns.targets) or not is_supervised,
        subject,
        "is plain text without targets (no tab in its first line)",
        "give ('source file', 'target file') or a table of tab-separated columns; config.data.objective names "
        "objectives that need no targets",
    )
    return examples


def _check_not_empty(examples: Examples, subject: str) -> None:
    reason = "is empty, because every row is bad" if examples.dropped else "is empty"
    require(len(examples) > 0, subject, "; ".join([reason, *map(str, examples.dropped)]))


def _split_names(config: DataConfig) -> Iterable[str]:
    """The names of the splits of a task ``tfds`` or ``hf``."""
    if config.task == "hf":
        return hf.open_splits(config.hf)
    from flaxformer_lite.data import tfds  # here, because TFDS takes a second to import

    return tfds.open_builder(config.tfds.name, config.tfds.data_dir).info.splits


def _read_hf(config: DataConfig, split: Split) -> Examples:
    subject, splits = f"config.data.hf.name_or_path={config.hf.name_or_path!r}", hf.open_splits(config.hf)
    require(
        split in splits,
        subject,
        f"it has no split {split!r}; its splits are {', '.join(splits)}",
        _FRACTION_REMEDY if split == "validation" else "",
    )
    examples = hf.read(config.hf, split, BadRows(config.on_bad_row), with_targets=config.objective == "supervised")
    _check_not_empty(examples, f"{subject}, split {split!r}")
    return examples


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
