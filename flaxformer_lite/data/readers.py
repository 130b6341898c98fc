"""All lines of a text file, plain or compressed, in UTF-8."""

from __future__ import annotations

from flaxformer_lite.data import files, rows
from flaxformer_lite.errors import InputError


def read_lines(name: str) -> list[str]:
    """Reads the lines of a local file or a URL; it is decompressed where its name ends in ``.gz`` or ``.zst``.

    Raises:
      InputError: the file cannot be read, is damaged or is not UTF-8.
    """
    lines: list[str] = []
    for block in files.iter_blocks(name):
        lines += _split(block, name, first=len(lines) + 1)
    return lines


def split_lines(data: bytes, name: str) -> list[str]:
    r"""Splits UTF-8 text into lines.

    Lines end in ``\n`` or ``\r\n`` and nowhere else (not at a form feed or U+2028); a byte order mark is removed.

    Args:
      data: the text.
      name: the name of its file, for error messages.

    Raises:
      InputError: the text is not UTF-8.
    """
    return _split(files.without_mark(data, name), name, first=1)


def _split(block: bytes, name: str, first: int) -> list[str]:
    lines, bad = rows.split_lines(block)
    if bad:
        i = min(bad)
        raise InputError(f"{name}:{first + i}", bad[i].detail, "convert the file from its encoding to UTF-8")
    return lines
