"""What a run made of a split, kept in its work folder to be compared with what others made of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaxformer_lite.errors import InputError, write_errors_named
from flaxformer_lite.system import multihost
from flaxformer_lite.system.atomic import atomic_write


@dataclass(frozen=True)
class Decodes:
    """Sources, what each may become, and what it became.

    Attributes:
      settings: what made them (split, step, search …) and their metrics, as ``evaluate --json`` says it.
      sources: one line each.
      references: for each source all that are right.
      hypotheses: one for each source.
    """

    settings: Mapping[str, Any]
    sources: Sequence[str]
    references: Sequence[Sequence[str]]
    hypotheses: Sequence[str]


def checked_name(name: str, flag: str) -> str:
    """The name of decodes, which must do as the name of a file."""
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise InputError(f"{flag}={name}: must be a name of letters, digits, '.', '_' and '-', such as test")
    return name


def path_of(folder: Path, name: str) -> Path:
    """Where decodes of this name lie in a work folder."""
    return folder / "decodes" / f"{name}.jsonl"


def save(decodes: Decodes, path: Path) -> None:
    """Writes them whole or not at all: a line of settings, then a line for each source."""
    if not multihost.is_primary():  # which writes for all
        return
    rows = zip(decodes.sources, decodes.references, decodes.hypotheses, strict=True)
    lines = [decodes.settings, *({"source": s, "references": list(r), "hypothesis": h} for s, r, h in rows)]
    with write_errors_named(path):
        path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as draft:
        draft.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")


def load(path: Path) -> Decodes:
    """Reads them.

    Raises:
      InputError: the file is not as ``save`` writes it.
    """
    try:
        # Not splitlines, which also parts what other characters than a newline separate.
        settings, *rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        columns = [[row[name] for row in rows] for name in ("source", "references", "hypothesis")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error!r}); let evaluate --save_decodes write it anew") from error
    return Decodes(settings, *columns)
