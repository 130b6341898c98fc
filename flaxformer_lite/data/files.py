"""Files of data: local or remote, one or many shards, plain or compressed, read in blocks of whole lines."""

from __future__ import annotations

import codecs
import contextlib
import glob
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from flaxformer_lite.errors import InputError, require

BLOCK_BYTES = 1 << 20  # of decompressed text; larger ones leave the cache: 16 MiB take 1.5 times as long
_CHUNK_BYTES = 1 << 18  # of compressed data, which may be thousands of times larger once decompressed
_COMPRESSED = (".gz", ".zst")
_SHARD = re.compile(r"^(?P<head>.*)-(?P<index>\d{5})-of-(?P<count>\d{5})(?P<tail>.*)$")

_OTHER_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


_Kind = Literal["file", "folder", "pattern", "nothing"]


def expand(entry: str) -> list[str]:
    """The files that one entry of a config names.

    Args:
      entry: a file, a glob pattern (``shards/*.tsv.gz``) or a folder, local or as a URL (``gs://bucket/shards``).

    Returns:
      The names of the files, sorted. A folder stands for the files directly in it but those whose names start with
      ``.`` or ``_``, such as ``_SUCCESS``.

    Raises:
      InputError: there is no such file, nothing matches the pattern, the folder is empty, or shards are missing that
        names of the form ``text-00000-of-00004`` promise.
    """
    with _errors_named(entry):
        found, kind = _expand_remote(entry) if is_remote(entry) else _expand_local(entry)
    if kind == "file":
        return [entry]
    where = "" if is_remote(entry) else f" (looked in {Path.cwd()})"
    require(kind != "nothing", entry, f"there is no such file{where}")
    require(bool(found), entry, "is a folder without files" if kind == "folder" else f"matches no file{where}")
    _check_shards(entry, found)
    return sorted(found)


def is_remote(name: str) -> bool:
    """Whether a name is a URL, which fsspec opens."""
    return "://" in name


def exists(name: str) -> bool:
    """Whether there is a file or folder of this name."""
    if not is_remote(name):
        return Path(name).expanduser().exists()
    with _errors_named(name):
        system, path = _file_system(name)
        return system.exists(path)


def extension(name: str) -> str:
    """The extension before that of compression: ``.tsv`` of ``train.tsv.gz``."""
    return os.path.splitext(_without_compression(name))[1].lower()


def read_first_line(name: str) -> str | None:
    """The first line of a text file; None where the file is empty.

    Raises:
      InputError: as for ``iter_blocks``.
    """
    return next(map(first_line_of, iter_blocks(name, _CHUNK_BYTES)), None)


def first_line_of(block: bytes) -> str:
    """The first line of a block of text; bytes that are not valid UTF-8 are replaced."""
    return block.split(b"\n", 1)[0].decode(errors="replace").removesuffix("\r")


def iter_blocks(name: str, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    r"""The text of a file in blocks that end at the end of a line; a UTF-8 byte order mark is removed.

    Lines end in ``\n`` here, which a block keeps; the last line of the file may lack it.

    Args:
      name: the file.
      block_bytes: bytes that are read for each block, which ends before the line that they cut.

    Raises:
      InputError: as for ``iter_chunks``, or it is UTF-16 or UTF-32 by its byte order mark.
    """
    parts: list[bytes] = []
    size, is_first = 0, True
    for chunk in iter_chunks(name, block_bytes):
        parts.append(chunk)
        size += len(chunk)
        if size < (4 if is_first else block_bytes):
            continue
        if is_first:
            parts, is_first = [without_mark(b"".join(parts), name)], False
            size = len(parts[0])
            if size < block_bytes:
                continue
        end = parts[-1].rfind(b"\n") + 1
        if end:  # otherwise a line is longer than a block
            rest = parts[-1][end:]
            parts[-1] = parts[-1][:end]
            yield parts[0] if len(parts) == 1 else b"".join(parts)
            parts, size = [rest], len(rest)
    last = b"".join(parts)
    if is_first:
        last = without_mark(last, name)
    if last:
        yield last


def iter_chunks(name: str, chunk_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The content of a file, decompressed where its name ends in ``.gz`` or ``.zst``, in chunks of any size.

    Raises:
      InputError: the file cannot be read, or is damaged or cut short.
    """
    suffix = os.path.splitext(name)[1]
    with open_binary(name) as file, _errors_named(name):
        if suffix in _COMPRESSED:
            yield from _decompress(file, suffix, name)
            return
        while chunk := file.read(chunk_bytes):
            yield chunk


@contextlib.contextmanager
def open_binary(name: str) -> Iterator[Any]:
    """Opens a local or remote file, as it is stored, for reading.

    Raises:
      InputError: it cannot be opened.
    """
    with _errors_named(name):
        if is_remote(name):
            system, path = _file_system(name)
            file = system.open(path, "rb")
        else:
            file = Path(name).expanduser().open("rb")
    with file:
        yield file


def _decompress(file: Any, suffix: str, name: str) -> Iterator[bytes]:
    """Decompresses all members of a gzip file, or frames of a zst file, one after the other."""
    stream: Any = None
    try:
        while chunk := file.read(_CHUNK_BYTES):
            while chunk:
                stream = stream or _make_decompressor(suffix)
                if text := stream.decompress(chunk):
                    yield text
                chunk = b""
                if stream.eof:
                    # Zeros may pad a gzip member to the size of a block of a tape.
                    chunk = stream.unused_data.lstrip(b"\0") if suffix == ".gz" else stream.unused_data
                    stream = None
        if stream is not None:
            raise EOFError("it ends before its end-of-stream marker")
    except (InputError, OSError, GeneratorExit):
        raise
    except Exception as error:  # zlib.error, EOFError, zstandard.ZstdError
        kind = {".gz": "gzip", ".zst": "zst"}[suffix]
        raise InputError(name, f"is not a complete {kind} file: {error}") from error


def _make_decompressor(suffix: str) -> Any:
    """An object of one gzip member or zst frame, with ``decompress``, ``eof`` and ``unused_data``."""
    if suffix == ".gz":
        return zlib.decompressobj(wbits=31)
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


def without_mark(data: bytes, name: str) -> bytes:
    """Removes the byte order mark of UTF-8; ``InputError`` for text that is UTF-16 or UTF-32."""
    for mark, encoding in _OTHER_BYTE_ORDER_MARKS.items():
        convert = f"convert it to UTF-8: iconv -f {encoding} -t UTF-8"
        require(not data.startswith(mark), name, f"it is {encoding} by its byte order mark, not UTF-8", convert)
    head = data[:1024]
    require(
        4 * head.count(0) <= len(head),
        name,
        f"it is no text: {head.count(0)} of its first {len(head)} bytes are 0, as in UTF-16 and in binary files",
        "convert it to UTF-8: iconv -f UTF-16 -t UTF-8",
    )
    return data.removeprefix(codecs.BOM_UTF8)


def _without_compression(name: str) -> str:
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return name


def _expand_local(entry: str) -> tuple[list[str], _Kind]:
    path = Path(entry).expanduser()
    if path.is_dir():
        names = [item.name for item in path.iterdir() if item.is_file()]
        return [os.path.join(entry, name) for name in names if _is_data(name)], "folder"
    if path.exists():  # a file or a pipe, even where its name looks like a pattern
        return [entry], "file"
    if not _is_pattern(entry):
        return [], "nothing"
    return [name for name in glob.glob(str(path), recursive=True) if os.path.isfile(name)], "pattern"


def _expand_remote(entry: str) -> tuple[list[str], _Kind]:
    system, path = _file_system(entry)
    if system.isfile(path):
        return [entry], "file"
    if system.isdir(path):
        names = [item["name"] for item in system.ls(path, detail=True) if item["type"] == "file"]
        names, kind = [name for name in names if _is_data(name.rpartition("/")[2])], "folder"
    elif _is_pattern(entry):
        names, kind = [name for name in system.glob(path) if system.isfile(name)], "pattern"
    else:
        return [], "nothing"
    return [system.unstrip_protocol(name) for name in names], kind


def _is_pattern(entry: str) -> bool:
    return any(letter in entry for letter in "*?[")


def _is_data(name: str) -> bool:
    return not name.startswith((".", "_"))


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    import fsspec  # here, because it takes 0.2 s to import

    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise InputError(url, str(error), "pip install 'flaxformer-lite[remote]'") from error


def _check_shards(entry: str, names: list[str]) -> None:
    """Refuses an incomplete set of shards named ``text-00000-of-00004``."""
    found: dict[tuple[str, str, str], set[int]] = {}
    for name in names:
        if shard := _SHARD.match(name):
            found.setdefault((shard["head"], shard["count"], shard["tail"]), set()).add(int(shard["index"]))
    for (head, count, tail), indices in found.items():
        missing = sorted(set(range(int(count))) - indices)
        names_missing = ", ".join(f"{head}-{index:05}-of-{count}{tail}" for index in missing[:3])
        more = f" and {len(missing) - 3} more" * (len(missing) > 3)
        require(not missing, entry, f"shards are missing: {names_missing}{more}", "restore them")


@contextlib.contextmanager
def _errors_named(name: str) -> Iterator[None]:
    """Converts errors of file systems to an ``InputError`` that names the file."""
    try:
        yield
    except (InputError, GeneratorExit):
        raise
    except FileNotFoundError as error:
        where = "" if is_remote(name) else f" (looked in {Path.cwd()})"
        raise InputError(name, f"there is no such file{where}") from error
    except IsADirectoryError as error:
        raise InputError(name, "is a directory", "give a file") from error
    except OSError as error:
        raise InputError(name, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:
        if not is_remote(name):
            raise
        # Each remote file system has exceptions of its own for a missing bucket, network or credential.
        raise InputError(name, f"cannot be read: {type(error).__name__}: {error}") from error
