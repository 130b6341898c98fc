"""Text of TensorFlow Datasets (TFDS), prepared and read without TensorFlow."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants
from tensorflow_datasets.core.download import downloader
from tensorflow_datasets.proto import tf_example_pb2

from flaxformer_lite.data import tfds_folders
from flaxformer_lite.errors import InputError, require

logger = logging.getLogger(__name__)

_FILE_FORMAT = "array_record"  # the only format that is read without TensorFlow


def open_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """Opens a data set, which is downloaded and prepared first if necessary.

    Args:
      name: its name, such as ``wmt14_translate/de-en``.
      data_dir: the directory of prepared data sets; "": TFDS's default.

    Raises:
      InputError: the data set is not prepared and cannot be; see also ``tfds_folders``.
    """
    subject = f"config.data.tfds.name={name!r}"
    require(bool(name), subject, "is not set", "give a name such as 'wmt14_translate/de-en'")
    root = data_dir or str(constants.DATA_DIR)
    tfds_folders.check_folder(name, root)
    try:
        builder = tfds.builder(name, data_dir=data_dir or None, file_format=_FILE_FORMAT)
        prepare(builder)
    except Exception as error:  # each data set's own code runs here and raises errors of any kind
        tfds_folders.check_version(name, root)
        option = f" --data_dir={data_dir}" if data_dir else ""
        reason = str(error).strip().splitlines()
        raise InputError(
            subject,
            f"it is not prepared as ArrayRecord in {root}, and preparing it failed: {type(error).__name__}: "
            f"{reason[0] if reason else 'no reason given'}",
            "prepare it on a machine with a network and TensorFlow (tfds build "
            f"{name} --file_format={_FILE_FORMAT}{option}) and set config.data.tfds.data_dir to its directory",
        ) from error
    return builder


def prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Downloads a data set and writes it as ArrayRecord, unless it exists already.

    Several processes may do so at the same time: each writes to its own directory, and the first one that finishes
    renames it to the final name.
    """
    if not builder.data_path.exists():
        logger.info(f"preparing data set {builder.info.full_name} in {builder.data_path} (once)")
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        try:
            with _quiet_download():
                builder.download_and_prepare(download_config=config, file_format=_FILE_FORMAT)
        except OSError:
            if not builder.data_path.exists():  # otherwise another process was faster
                raise
    if not builder.info.splits:  # the builder was created before the data
        builder.info.read_from_directory(builder.data_path)


def read_texts(builder: tfds.core.DatasetBuilder, split: str, features: Sequence[str]) -> list[list[tuple[str, ...]]]:
    """Reads text features of a whole split.

    Args:
      builder: the builder of a prepared data set.
      split: the name of the split, which must exist.
      features: names of features, each a text or a sequence of texts; a nested one is ``outer/inner``.

    Returns:
      For each feature the texts of each example.

    Raises:
      InputError: there is no such text feature.
    """
    known = sorted(_text_features(builder.info.features))
    for feature in features:
        reason = f"has no text feature {feature!r}; its text features are {', '.join(known)}"
        require(feature in known, builder.info.full_name, reason)
    untyped: Any = builder  # TFDS's annotations omit __getitems__
    source = untyped.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    # Parsed here because TFDS, which makes an array of every text, takes four times as long.
    columns: list[list[tuple[str, ...]]] = [[] for _ in features]
    parse = tf_example_pb2.Example.FromString  # pyright: ignore[reportAttributeAccessIssue]  (created at run time)
    for record in source.__getitems__(range(len(source))):
        values = parse(record).features.feature
        for column, feature in zip(columns, features, strict=True):
            column.append(tuple(text.decode() for text in values[feature].bytes_list.value))
    return columns


def _text_features(feature: object, name: str = "") -> Iterator[str]:
    """The names of all texts and sequences of texts in a feature; nested names are joined by a slash."""
    match feature:
        case tfds.features.Text() | tfds.features.Sequence(feature=tfds.features.Text()):
            yield name
        case tfds.features.FeaturesDict():
            for key, inner in feature.items():
                yield from _text_features(inner, f"{name}/{key}" if name else key)


@contextlib.contextmanager
def _quiet_download() -> Iterator[None]:
    """Suppresses TFDS's output on stdout, and limits the retries on a machine without a network."""
    urllib3_logger = logging.getLogger("urllib3")
    level, retries = urllib3_logger.level, downloader.MAX_RETRIES
    urllib3_logger.setLevel(logging.ERROR)
    downloader.MAX_RETRIES = 4  # waiting times double: 10 retries take over three minutes
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        downloader.MAX_RETRIES = retries
        urllib3_logger.setLevel(level)
