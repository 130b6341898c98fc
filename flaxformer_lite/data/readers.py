"""Text files, plain or gzip, in UTF-8, with one example per line."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from flaxformer_lite.errors import InputError, require

_OTHER_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_lines(name: str) -> list[str]:
    """Reads the lines of a file; a file whose name ends in ``.gz`` is decompressed.

    Raises:
      InputError: the file cannot be read, is damaged or is not UTF-8.
    """
    return split_lines(_read_bytes(name), name)


def split_lines(data: bytes, name: str) -> list[str]:
    r"""Splits UTF-8 text into lines.

    Lines end in ``\n`` or ``\r\n`` and nowhere else (not at a form feed or U+2028); a byte order mark is removed.

    Args:
      data: the text.
      name: the name of its file, for error messages.

    Raises:
      InputError: the text is not UTF-8.
    """
    for mark, encoding in _OTHER_BYTE_ORDER_MARKS.items():
        convert = f"convert it to UTF-8: iconv -f {encoding} -t UTF-8"
        require(not data.startswith(mark), name, f"it is {encoding} by its byte order mark, not UTF-8", convert)
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"not valid UTF-8 ({data[error.start : error.end]!r})"
        raise InputError(f"{name}:{line}", reason, "convert the file from its encoding to UTF-8") from error
    lines = text.split("\n")
    if not lines[-1]:
        del lines[-1]
    return [line.removesuffix("\r") for line in lines]


def read_tsv(name: str) -> list[tuple[str, str]]:
    """Reads a file of two tab-separated columns.

    Raises:
      InputError: as for ``read_lines``, or a line does not have two columns.
    """
    pairs = []
    for number, line in enumerate(read_lines(name), start=1):
        columns = line.split("\t")
        if len(columns) != 2:
            reason = f"{len(columns)} tab-separated columns instead of 2 (source and target): {line[:80]!r}"
            raise InputError(f"{name}:{number}", reason)
        pairs.append((columns[0], columns[1]))
    return pairs


def _read_bytes(name: str) -> bytes:
    path = Path(name).expanduser()
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except FileNotFoundError as error:
        raise InputError(name, f"there is no such file (looked in {Path.cwd()})") from error
    except IsADirectoryError as error:
        raise InputError(name, "is a directory", "give a file") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(name, f"is not a complete gzip file: {error}") from error
    except OSError as error:
        raise InputError(name, f"cannot be read: {error.strerror}") from error
