"""Text of Hugging Face datasets that are saved on disk or cached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from flaxformer_lite.config.dataclasses import HfConfig
from flaxformer_lite.data import files, jsonl_parquet
from flaxformer_lite.data.examples import Examples
from flaxformer_lite.data.rows import BadRows, RowBlock
from flaxformer_lite.data.table_columns import Columns, concatenate, to_examples
from flaxformer_lite.errors import InputError, require

_BATCH_ROWS = 1 << 16


def open_splits(config: HfConfig) -> Mapping[str, Any]:
    """Opens a dataset: its splits by their names.

    Raises:
      InputError: no name is given, the package is not installed, or there is no such dataset on this machine and it
        cannot be downloaded.
    """
    subject = f"config.data.hf.name_or_path={config.name_or_path!r}"
    remedy = "give a folder that save_to_disk wrote, or a name such as 'wmt14'"
    require(bool(config.name_or_path), subject, "is not set", remedy)
    try:
        import datasets
    except ImportError as error:
        reason = "config.data.task='hf' needs the package datasets"
        raise InputError(subject, reason, "pip install 'flaxformer-lite[datasets]'") from error
    datasets.disable_progress_bars()
    try:
        if _is_saved(config.name_or_path):
            found = datasets.load_from_disk(config.name_or_path)
        else:
            found = datasets.load_dataset(config.name_or_path, config.config_name or None)
    except Exception as error:  # files, network and the dataset's own format: errors of any kind
        lines = str(error).strip().splitlines()
        reason = f"cannot be read: {type(error).__name__}: {lines[0] if lines else 'no reason given'}"
        raise InputError(subject, reason, "save it with save_to_disk on a machine that has it") from error
    if isinstance(found, datasets.Dataset):
        return {str(found.split or "train"): found}
    return {str(split): dataset for split, dataset in found.items()}


def read(config: HfConfig, split: str, bad: BadRows, with_targets: bool = True) -> Examples:
    """Reads two text fields of a whole split, which must exist; only that of sources if not ``with_targets``.

    Raises:
      InputError: see ``open_splits``; or there is no such text field, or a row cannot be used and ``bad`` refuses it.
    """
    columns = Columns((config.source_field,), (config.target_field,) if with_targets else ())
    dataset = open_splits(config)[split]
    jsonl_parquet.check_fields(
        dataset.features.arrow_schema, (*columns.sources, *columns.targets), (), f"{config.name_or_path}, split {split}"
    )
    parts = (to_examples(block, columns, bad) for block in _blocks(dataset, f"{config.name_or_path}/{split}", columns))
    return replace(concatenate(parts, ()), dropped=bad.dropped())


def _blocks(dataset: Any, name: str, columns: Columns) -> Iterator[RowBlock]:
    first = 1
    for table in dataset.with_format("arrow").iter(_BATCH_ROWS):
        yield jsonl_parquet.arrow_block(RowBlock(name, first, [], {}), table, (*columns.sources, *columns.targets), ())
        first += table.num_rows


def _is_saved(name: str) -> bool:
    """Whether a name is a folder that ``save_to_disk`` wrote."""
    return any(files.exists(f"{name}/{file}") for file in ("dataset_dict.json", "state.json"))
