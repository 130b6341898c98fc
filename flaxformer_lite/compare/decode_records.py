"""Stored decodes of a split, in a run's work directory, for significance tests."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaxformer_lite.errors import InputError, require, write_errors_named
from flaxformer_lite.system import multihost
from flaxformer_lite.system.atomic import atomic_write


@dataclass(frozen=True)
class DecodeRecords:
    """Hypotheses with their sources and references.

    Attributes:
      settings: split, step, decoding options and metrics, as ``evaluate --json`` prints them.
      sources: one line each.
      references: one or more for each source.
      hypotheses: one for each source.
    """

    settings: Mapping[str, Any]
    sources: Sequence[str]
    references: Sequence[Sequence[str]]
    hypotheses: Sequence[str]


def check_name(name: str) -> str:
    """Returns the name of stored decodes; raises ``InputError`` unless it is a valid file name."""
    valid = re.fullmatch(r"[\w-][\w.-]*", name)
    require(bool(valid), f"name {name!r}", "must consist of letters, digits, '.', '_' and '-', such as test")
    return name


def decodes_path(workdir: Path, name: str) -> Path:
    """The file of decodes with this name."""
    return workdir / "decodes" / f"{name}.jsonl"


def save_decodes(records: DecodeRecords, path: Path) -> None:
    """Writes the settings on the first line and one line per source, atomically, in the primary process only."""
    if not multihost.is_primary():
        return
    rows = zip(records.sources, records.references, records.hypotheses, strict=True)
    lines = [records.settings, *({"source": s, "references": list(r), "hypothesis": h} for s, r, h in rows)]
    with write_errors_named(path):
        path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as draft:
        draft.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")


def load_decodes(path: Path) -> DecodeRecords:
    """Reads stored decodes.

    Raises:
      InputError: the file is damaged.
    """
    try:
        # Not splitlines, which also splits at other characters than a newline.
        settings, *rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        columns = [[row[name] for row in rows] for name in ("source", "references", "hypothesis")]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}", f"cannot be read ({error!r})", "write it again with save_decodes") from error
    return DecodeRecords(settings, *columns)
