"""Text out of data sets prepared by TensorFlow Datasets, without TensorFlow."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader
from tensorflow_datasets.proto import tf_example_pb2

from flaxformer_lite.errors import InputError

_FILE_FORMAT = "array_record"  # the one that is read without TensorFlow


def open_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """Finds a prepared data set; downloads and prepares it if it is not there yet.

    Args:
      name: such as ``wmt14_translate/de-en``.
      data_dir: where it was, or shall be, prepared; "": TFDS's default.

    Raises:
      InputError: it is neither prepared nor can be.
    """
    if not name:
        raise InputError("config.data.tfds.name='' is not set: give a name such as 'wmt14_translate/de-en'")
    try:
        builder = tfds.builder(name, data_dir=data_dir or None, file_format=_FILE_FORMAT)
        prepare(builder)
    except Exception as error:  # each data set's own code runs here, and fails in its own way
        where = data_dir or "TFDS's default folder"
        option = f" --data_dir={data_dir}" if data_dir else ""
        reason = str(error).strip().splitlines()
        raise InputError(
            f"config.data.tfds.name={name!r} is not prepared as ArrayRecord in {where}, nor can be: "
            f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}; "
            "prepare it on a machine with a network and TensorFlow "
            f"(tfds build {name} --file_format={_FILE_FORMAT}{option}) and set config.data.tfds.data_dir to its folder"
        ) from error
    return builder


def prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Downloads and writes a data set as ArrayRecord, unless it is there already.

    Several processes may do so at once: each writes into a folder of its own, and whoever is first to finish gives it
    the final name.
    """
    if not builder.data_path.exists():
        print(f"Preparing data set {builder.info.full_name} in {builder.data_path} (once)", file=sys.stderr, flush=True)
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        try:
            with _quiet():
                builder.download_and_prepare(download_config=config, file_format=_FILE_FORMAT)
        except OSError:
            if not builder.data_path.exists():  # or else another process was faster
                raise
    if not builder.info.splits:  # the builder was made before the data were
        builder.info.read_from_directory(builder.data_path)


def read_texts(builder: tfds.core.DatasetBuilder, split: str, features: Sequence[str]) -> list[list[tuple[str, ...]]]:
    """Reads text features of a whole split.

    Args:
      builder: of a prepared data set.
      split: name of the split.
      features: names of features, each a text or a sequence of texts; a nested one as ``outer/inner``.

    Returns:
      for each feature the texts of each example.

    Raises:
      InputError: there is no such split or text feature.
    """
    known = sorted(_text_features(builder.info.features))
    for feature in features:
        if feature not in known:
            raise InputError(
                f"{builder.info.full_name} has no text feature {feature!r}; its text features: {', '.join(known)}"
            )
    if split not in builder.info.splits:
        raise InputError(
            f"{builder.info.full_name} has no split {split!r}; its splits: {', '.join(builder.info.splits)}"
        )
    untyped: Any = builder  # TFDS's annotations forget that a data source has __getitems__
    source = untyped.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    # Parsed here rather than by TFDS, which makes an array of every text and takes four times as long.
    columns: list[list[tuple[str, ...]]] = [[] for _ in features]
    parse = tf_example_pb2.Example.FromString  # pyright: ignore[reportAttributeAccessIssue]  (made at run time)
    for record in source.__getitems__(range(len(source))):
        values = parse(record).features.feature
        for column, feature in zip(columns, features, strict=True):
            column.append(tuple(text.decode() for text in values[feature].bytes_list.value))
    return columns


def _text_features(feature: object, name: str = "") -> Iterator[str]:
    """The names of all texts and sequences of texts in a feature; nested names are joined by a slash, as stored."""
    match feature:
        case tfds.features.Text() | tfds.features.Sequence(feature=tfds.features.Text()):
            yield name
        case tfds.features.FeaturesDict():
            for key, inner in feature.items():
                yield from _text_features(inner, f"{name}/{key}" if name else key)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS off standard output, and a machine without a network from trying for minutes."""
    logger = logging.getLogger("urllib3")
    level, retries = logger.level, downloader.MAX_RETRIES
    logger.setLevel(logging.ERROR)
    downloader.MAX_RETRIES = 4  # waits double: 10 of them take over three minutes
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        downloader.MAX_RETRIES = retries
        logger.setLevel(level)
