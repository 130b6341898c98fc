"""What there is to learn: for each task, sources and their references as text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flaxformer_lite.config.dataclasses import DataConfig, ReverseConfig, TextConfig, TfdsConfig
from flaxformer_lite.data import readers
from flaxformer_lite.errors import InputError

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Examples:
    """Sources, and what each may become: one reference, or several that are all right."""

    sources: list[str]
    references: list[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.sources)

    def pairs(self) -> tuple[list[str], list[str]]:
        """Each source with each of its references: what a model is trained on."""
        sources = [source for source, these in zip(self.sources, self.references, strict=True) for _ in these]
        return sources, [reference for these in self.references for reference in these]

    def sample(self, count: int) -> Examples:
        """``count`` examples evenly spaced over all of them, since files are often sorted; all if 0 or not so many."""
        if not 0 < count < len(self):
            return self
        chosen = np.arange(count) * len(self) // count
        return Examples([self.sources[i] for i in chosen], [self.references[i] for i in chosen])


def load(config: DataConfig, split: Split, seed: int) -> Examples:
    """Reads one split of the configured task.

    Args:
      config: what to read.
      split: which part of it.
      seed: of synthetic data.

    Raises:
      InputError: the data are not there, cannot be read, or are empty.
    """
    match config.task:
        case "cmudict":
            from flaxformer_lite.data import cmudict  # TFDS takes a second to import

            return Examples(*cmudict.load(config.cmudict, split))
        case "text":
            return _text(config.text, split)
        case "tfds":
            return _tfds(config.tfds, split)
        case "reverse":
            return _reverse(config.reverse, split, seed)


def _text(config: TextConfig, split: Split) -> Examples:
    key = f"config.data.text.{split}"
    files = {"train": config.train, "validation": config.validation, "test": config.test}[split]
    if not files or "" in files:
        raise InputError(f"{key}={files} is not set: give ('source file', 'target file') or ('file.tsv',)")
    if len(files) > 2:
        raise InputError(f"{key}={files}: two parallel files, or one of tab-separated columns, not {len(files)}")
    examples = _grouped(readers.read_tsv(files[0])) if len(files) == 1 else _parallel(*files)
    if not examples.sources:
        raise InputError(f"{key}={files} is empty")
    return examples


def _parallel(source_file: str, target_file: str) -> Examples:
    sources, targets = readers.read_lines(source_file), readers.read_lines(target_file)
    if len(sources) != len(targets):
        raise InputError(
            f"{source_file} has {len(sources)} lines and {target_file} {len(targets)}: line i of one must be the "
            "translation of line i of the other"
        )
    return Examples(sources, [(target,) for target in targets])


def _grouped(pairs: Iterable[tuple[str, str]]) -> Examples:
    """Lines with the same source are references of one example, which stands where its first line stood."""
    references: dict[str, list[str]] = {}
    for source, target in pairs:
        references.setdefault(source, []).append(target)
    return Examples(list(references), [tuple(these) for these in references.values()])


def _tfds(config: TfdsConfig, split: Split) -> Examples:
    from flaxformer_lite.data import tfds  # TFDS takes a second to import

    builder = tfds.open_builder(config.name, config.data_dir)
    features = (config.source_feature, config.target_feature)
    sources, targets = tfds.read_texts(builder, split, features)
    if not sources:
        raise InputError(f"config.data.tfds.name={config.name!r}: its {split} split is empty")
    for i, (source, references) in enumerate(zip(sources, targets, strict=True)):
        if len(source) != 1 or not references:
            raise InputError(
                f"config.data.tfds.name={config.name!r}: example {i} of its {split} split has {len(source)} texts in "
                f"feature {features[0]!r} and {len(references)} in {features[1]!r}; one source and at least one "
                "reference are needed"
            )
    return Examples([source for (source,) in sources], targets)


def _reverse(config: ReverseConfig, split: Split, seed: int) -> Examples:
    """Strings of even odds for each length and letter; the splits are drawn with seeds of their own.

    So a short string, of which there are few, is in several splits, a long one practically never.
    """
    if not config.alphabet:
        raise InputError("config.data.reverse.alphabet='' has no letters")
    random = np.random.default_rng([seed, ("train", "validation", "test").index(split)])
    count = config.examples if split == "train" else config.examples // 10
    lengths = random.integers(config.min_length, config.max_length, size=count, endpoint=True)
    ends = np.cumsum(lengths)
    letters = "".join(config.alphabet[i] for i in random.integers(len(config.alphabet), size=ends[-1]))
    sources = [letters[end - length : end] for length, end in zip(lengths, ends, strict=True)]
    return Examples(sources, [(source[::-1],) for source in sources])
