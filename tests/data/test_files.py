"""Names of files become files, and files become blocks of whole lines, wherever they are and however compressed."""

import gzip
import sys

import fsspec
import pytest
import zstandard

from flaxformer_lite.data import files
from flaxformer_lite.errors import InputError

_COMPRESS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


@pytest.fixture(params=["local", "memory://"])
def folder(request, tmp_path):
    """The name of an empty folder, local and remote."""
    if request.param == "local":
        yield str(tmp_path)
        return
    name = f"memory:///{tmp_path.name}"
    yield name
    fsspec.filesystem("memory").rm(tmp_path.name, recursive=True)


def _write(name, data):
    with fsspec.open(name, "wb") as file:
        file.write(data)
    return name


def _shards(folder, *names):
    return [_write(f"{folder}/{name}", b"text\n") for name in names]


def test_a_file_a_pattern_and_a_folder(folder):
    b, a, c = _shards(folder, "b-10.tsv", "a-2.tsv", "c.txt")
    _shards(folder, "_SUCCESS", ".hidden", "inner/d.tsv")
    assert files.expand(c) == [c]
    assert files.expand(f"{folder}/*.tsv") == [a, b]
    assert files.expand(f"{folder}/[bc]*") == [b, c]
    assert files.expand(folder) == files.expand(f"{folder}/") == [a, b, c]


def test_a_file_whose_name_looks_like_a_pattern(folder):
    name, other = _shards(folder, "a[1].tsv", "a1.tsv")
    assert files.expand(name) == [name]
    assert files.expand(other) == [other]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.tsv", r"nowhere\.tsv: there is no such file"),
        ("*.tsv", r"\*\.tsv: matches no file"),
        ("inner", "inner: is a folder without files"),
    ],
)
def test_names_of_nothing(folder, name, message):
    _shards(folder, "a.txt", "inner/deeper/b.txt")
    with pytest.raises(InputError, match=message):
        files.expand(f"{folder}/{name}")


def test_shards_that_are_missing_are_named(folder):
    names = _shards(folder, *(f"x-0000{i}-of-00005.tsv.gz" for i in range(5)))
    assert files.expand(f"{folder}/x-*") == names
    fsspec.open(names[3]).fs.rm(names[3])
    for entry in (folder, f"{folder}/x-*"):
        with pytest.raises(InputError, match=r"shards are missing: .*x-00003-of-00005\.tsv\.gz; restore"):
            files.expand(entry)


def test_relative_names_stay_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _shards("folder", "b", "a")
    assert files.expand("folder") == files.expand("folder/*") == ["folder/a", "folder/b"]
    with pytest.raises(InputError, match=rf"there is no such file \(looked in {tmp_path}\)"):
        files.expand("nothing")


def test_a_file_that_vanishes_is_named(folder):
    (name,) = files.expand(*_shards(folder, "a.tsv"))
    fsspec.open(name).fs.rm(name)
    with pytest.raises(InputError, match=rf"{name}: there is no such file"):
        list(files.iter_blocks(name))


def test_file_systems_that_are_missing(monkeypatch):
    with pytest.raises(InputError, match=r"nonsense://x: cannot be read: ValueError: Protocol not known: nonsense"):
        files.expand("nonsense://x")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match=r"gs://bucket/x: .*pip install 'flaxformer-lite\[remote\]'"):
        files.expand("gs://bucket/x")


@pytest.mark.parametrize("suffix", _COMPRESS)
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_blocks_are_whole_lines_that_together_are_the_file(folder, suffix, size):
    text = b"one\n\n" + b"a longer line than a block\n" + b"x\n" * 5 + b"the last"
    for data in (text, text + b"\n", b"", b"\n", b"x"):
        name = _write(f"{folder}/text{suffix}", _COMPRESS[suffix](data))
        blocks = list(files.iter_blocks(name, size))
        assert b"".join(blocks) == data
        assert all(block.endswith(b"\n") for block in blocks[:-1])
        assert b"" not in blocks


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_members_and_frames_follow_one_another(tmp_path, suffix):
    compress = _COMPRESS[suffix]
    data = compress(b"one\n") + compress(b"") + compress(b"two\n") + b"\0" * 512 * (suffix == ".gz")
    assert b"".join(files.iter_blocks(_write(f"{tmp_path}/x{suffix}", data))) == b"one\ntwo\n"


@pytest.mark.parametrize(("suffix", "kind"), [(".gz", "gzip"), (".zst", "zst")])
def test_damaged_compression(folder, suffix, kind):
    whole = _COMPRESS[suffix](b"".join(b"line %d\n" % i for i in range(1000)))
    for damaged in (b"plain text", whole[:-1], whole[: len(whole) // 2], whole[:2], whole + b"rubbish"):
        name = _write(f"{folder}/damaged{suffix}", damaged)
        with pytest.raises(InputError, match=rf"damaged\{suffix}: is not a complete {kind} file"):
            list(files.iter_blocks(name))


@pytest.mark.parametrize("size", [1, 100])
def test_byte_order_marks(tmp_path, size):
    name = _write(f"{tmp_path}/text", "one\ntwo\n".encode("utf-8-sig"))
    assert b"".join(files.iter_blocks(name, size)) == b"one\ntwo\n"
    for encoding in ("utf-16", "utf-32"):
        name = _write(f"{tmp_path}/text", "cat\tKatze\n".encode(encoding))
        with pytest.raises(InputError, match=rf"it is {encoding.upper()} by its byte order mark.*iconv -f "):
            list(files.iter_blocks(name, size))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_byte_order_mark(tmp_path, encoding):
    name = _write(f"{tmp_path}/text", "a cat\tdie Katze\n".encode(encoding) * 30)
    with pytest.raises(InputError, match=r"it is no text: \d+ of its first \d+ bytes are 0, as in UTF-16"):
        list(files.iter_blocks(name))


def test_the_first_line(tmp_path):
    for data, line in (
        (b"", None),
        (b"\n", ""),
        (b"a b\r\nc\n", "a b"),
        (b"\xef\xbb\xbfa", "a"),
        (b"\xff\n", "\ufffd"),
    ):
        assert files.read_first_line(_write(f"{tmp_path}/text", data)) == line


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        ("a/b.tsv.gz", ".tsv"),
        ("b.TSV", ".tsv"),
        ("gs://b/c.jsonl.zst", ".jsonl"),
        ("a.b/c", ""),
        ("train.de.gz", ".de"),
    ],
)
def test_extensions(name, extension):
    assert files.extension(name) == extension


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="is a directory; give a file"):
        list(files.iter_blocks(str(tmp_path)))
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        list(files.iter_blocks("x" * 300))
