"""The user's own text files: plain or gzip, UTF-8, one example a line."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from flaxformer_lite.errors import InputError


def read_lines(name: str) -> list[str]:
    """The lines of a file, of one whose name ends in ``.gz`` unpacked.

    Raises:
      InputError: the file cannot be read, is damaged or is not UTF-8; it names the file, and the line if it can.
    """
    return split_lines(_read_bytes(name), name)


def split_lines(data: bytes, name: str) -> list[str]:
    r"""The lines of UTF-8 text.

    Lines end in ``\n`` or ``\r\n`` and nowhere else (not at a form feed or U+2028, say); a byte order mark is left out.

    Args:
      data: the text.
      name: where it came from, for the message.

    Raises:
      InputError: it is not UTF-8.
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}:{line}: not valid UTF-8 ({data[error.start : error.end]!r}); convert it, such as by "
            "iconv -f latin1 -t utf8"
        ) from error
    lines = text.split("\n")
    if not lines[-1]:
        del lines[-1]  # what stands behind the last line's end is no line
    return [line.removesuffix("\r") for line in lines]


def read_tsv(name: str) -> list[tuple[str, str]]:
    """The lines of a file of two tab-separated columns.

    Raises:
      InputError: as ``read_lines``, or a line has not two columns.
    """
    pairs = []
    for number, line in enumerate(read_lines(name), start=1):
        columns = line.split("\t")
        if len(columns) != 2:
            raise InputError(
                f"{name}:{number}: {len(columns)} tab-separated columns instead of 2 (source and target): {line[:80]!r}"
            )
        pairs.append((columns[0], columns[1]))
    return pairs


def _read_bytes(name: str) -> bytes:
    path = Path(name).expanduser()
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except FileNotFoundError as error:
        raise InputError(f"{name}: there is no such file (looked in {Path.cwd()})") from error
    except IsADirectoryError as error:
        raise InputError(f"{name} is a directory; give a file") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{name} is not a whole gzip file: {error}") from error
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error
