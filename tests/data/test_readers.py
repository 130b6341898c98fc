"""Lines of text files, and error messages that name the file and the line."""

import gzip

import pytest

from flaxformer_lite.data import readers
from flaxformer_lite.errors import InputError


def _write(folder, name, data):
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(path)


@pytest.mark.parametrize("name", ["text", "text.gz"])
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"\xef\xbb\xbfone\r\n\r\ntwo\r\n", ["one", "", "two"]),
        (
            "a\u2028b\x0cc\x85\né \n".encode(),
            ["a\u2028b\x0cc\x85", "é "],
        ),  # line ends of str.splitlines, not of files
        (b"one\n\n", ["one", ""]),
        (b"", []),
    ],
)
def test_lines(tmp_path, name, data, lines):
    assert readers.read_lines(_write(tmp_path, name, data)) == lines


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_invalid_utf8_names_file_and_line(tmp_path, bom):
    name = _write(tmp_path, "latin", bom + "one\ntwo\nGr\u00fc\u00dfe\n".encode("latin1"))
    with pytest.raises(
        InputError, match=rf"{name}:3: not valid UTF-8 \(b'\\xfc.*\); convert the file from its encoding"
    ):
        readers.read_lines(name)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_unicode_encodings_are_named_by_their_byte_order_mark(tmp_path, encoding):
    name = _write(tmp_path, "text", "cat\tKatze\n".encode(encoding))
    with pytest.raises(
        InputError, match=rf"it is {encoding.upper()} by its byte order mark.*iconv -f {encoding.upper()}"
    ):
        readers.read_lines(name)


def test_damaged_gzip(tmp_path):
    whole = gzip.compress(b"some text " * 100)
    for damaged in (b"plain text", whole[:-10], whole[:20] + b"\x00\xff\x00\xff" + whole[24:], b"\x1f\x8b"):
        path = tmp_path / "damaged.gz"
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is not a complete gzip file"):
            readers.read_lines(str(path))


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(InputError, match="nowhere: there is no such file"):
        readers.read_lines(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="is a directory"):
        readers.read_lines(str(tmp_path))


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    _write(tmp_path, "text", b"here\n")
    assert readers.read_lines("~/text") == ["here"]
