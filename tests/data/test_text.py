"""Examples of parallel files, tables and plain text; rows that cannot be used are named or counted."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from flaxformer_lite.config.dataclasses import TextConfig
from flaxformer_lite.data import files, text
from flaxformer_lite.data.examples import Examples
from flaxformer_lite.data.rows import BadRows
from flaxformer_lite.errors import InputError

_PAIRS = [("eins", "one"), ("zwei", "two"), ("drei", "three"), ("vier é\u2028", "four\x0c")]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of one or two lines, so that files have several."""
    monkeypatch.setattr(files.iter_blocks, "__defaults__", (9,))
    monkeypatch.setattr("flaxformer_lite.data.jsonl_parquet._BATCH_ROWS", 3)


@pytest.fixture
def write(tmp_path):
    """Writes files into one folder; returns their names."""

    def write_all(**contents):
        names = []
        for name, data in contents.items():
            path = tmp_path / name.replace("__", "-").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            data = data.encode() if isinstance(data, str) else data
            data = gzip.compress(data) if path.suffix == ".gz" else data
            path.write_bytes(zstandard.compress(data) if path.suffix == ".zst" else data)
            names.append(str(path))
        return names

    return write_all


def _read(*entries, policy="error", with_targets=True, **changes):
    defaults = {
        **{"train": (), "validation": (), "test": (), "format": "auto", "header": False, "column_separator": " "},
        **{"source_columns": (), "target_columns": (), "meta_columns": (), "group_references": False},
    }
    config = TextConfig(**defaults | changes)
    found = text.find_files(config, entries, "config.data.text.train", with_targets)
    return text.read(found, BadRows(policy), config.group_references)


def _lines(texts):
    return "".join(f"{line}\n" for line in texts)


def _tsv(rows):
    return _lines("\t".join(row) for row in rows)


def _parquet(columns):
    sink = pa.BufferOutputStream()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), sink, row_group_size=2)
    return sink.getvalue().to_pybytes()


_EXAMPLES = Examples([source for source, _ in _PAIRS], [(target,) for _, target in _PAIRS])
_OBJECTS = [{"source": source, "target": target} for source, target in _PAIRS]


@pytest.mark.parametrize("suffix", ["", "_gz", "_zst"])
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a_tsv", _tsv(_PAIRS)),
        ("a_txt", _tsv(_PAIRS)),  # a tab in its first line
        ("a_jsonl", _lines(map(json.dumps, _OBJECTS))),
        ("a_ndjson", _lines(json.dumps(one, ensure_ascii=False) for one in _OBJECTS)),
    ],
)
def test_tables(write, suffix, name, data):
    assert _read(*write(**{name + suffix: data})) == _EXAMPLES


def test_a_parquet_file(write):
    sources, targets = zip(*_PAIRS, strict=True)
    tables = [
        {"id": [1, 2, 3, 4], "target": list(targets), "source": list(sources)},
        {"source": pa.array(sources).dictionary_encode(), "target": pa.array(targets, pa.large_string())},
    ]
    for table in tables:
        assert _read(*write(a_parquet=_parquet(table))) == _EXAMPLES


@pytest.mark.parametrize("suffix", ["", "_gz", "_zst"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_parallel_files_whose_blocks_have_different_lines(write, suffix, newline):
    lines = [(f"{i}" * (i % 7 + 1), f"{i}" * (i % 5 * 3 + 1)) for i in range(60)]
    sources, targets = (_lines(side).replace("\n", newline) for side in zip(*lines, strict=True))
    names = write(**{f"a_de{suffix}": sources, f"a_en{suffix}": targets.removesuffix(newline)})
    assert _read(*names) == Examples([source for source, _ in lines], [(target,) for _, target in lines])


@pytest.mark.parametrize("extension", ["tsv", "jsonl", "parquet"])
def test_shards_of_a_table(write, extension, tmp_path):
    make = {
        "tsv": _tsv,
        "jsonl": lambda rows: _lines(json.dumps({"source": source, "target": target}) for source, target in rows),
        "parquet": lambda rows: _parquet({"source": [row[0] for row in rows], "target": [row[1] for row in rows]}),
    }[extension]
    parts = {f"s/b__2_{extension}": _PAIRS[2:3], f"s/a__1_{extension}": _PAIRS[:2], f"s/c__3_{extension}": _PAIRS[3:]}
    b, a, c = write(**{name: make(rows) for name, rows in parts.items()})
    assert _read(a, b, c) == _EXAMPLES
    assert _read(f"{tmp_path}/s/*.{extension}") == _read(f"{tmp_path}/s") == _EXAMPLES
    assert _read(f"{tmp_path}/s/[ab]*", c) == _EXAMPLES


def test_shards_of_parallel_files_are_matched_in_order(write, tmp_path):
    write(**{"de/b": "zwei\n", "de/a": "eins\n", "en/y": "two\n", "en/x": "one\n"})
    expected = Examples(["eins", "zwei"], [("one",), ("two",)])
    assert _read(f"{tmp_path}/de", f"{tmp_path}/en") == _read(f"{tmp_path}/de/*", f"{tmp_path}/en/*") == expected
    write(**{"en/z": "three\n"})
    with pytest.raises(InputError, match=r"/de, .*/en: have 2 and 3 files; files are matched in the order"):
        _read(f"{tmp_path}/de", f"{tmp_path}/en")


def test_remote_files():
    import fsspec

    with fsspec.open("memory:///folder/a.de", "w") as file:
        file.write("eins\nzwei\n")
    with fsspec.open("memory:///folder/a.en.gz", "wb") as file:
        file.write(gzip.compress(b"one\ntwo\n"))
    with fsspec.open("memory:///parquet/a.parquet", "wb") as file:
        file.write(_parquet({"source": ["eins"], "target": ["one"]}))
    both = Examples(["eins", "zwei"], [("one",), ("two",)])
    assert _read("memory:///folder/a.de", "memory:///folder/a.en.gz") == both
    assert _read("memory:///parquet") == Examples(["eins"], [("one",)])


@pytest.mark.parametrize(("longer", "counts"), [(0, "5 and 4"), (1, "4 and 5")])
def test_unequal_numbers_of_lines(write, longer, counts):
    lines = ["a line\n" * 4, "b\n" * 4]
    lines[longer] += "c\n"
    names = write(a_de=lines[0], a_en=lines[1])
    for policy in ("error", "drop"):
        with pytest.raises(InputError, match=rf"a\.de, .*a\.en: have {counts} lines; line i of one must be"):
            _read(*names, policy=policy)


def test_chosen_columns_of_a_tsv(write):
    names = write(a_tsv=_tsv([("walk", "walked", "V;PST"), ("go", "goes", "V;PRS")]))
    inflection = _read(*names, source_columns=("0", "2"), target_columns=("1",))
    assert inflection == Examples(["walk V;PST", "go V;PRS"], [("walked",), ("goes",)])
    with_meta = _read(*names, meta_columns=("2", "0"), column_separator="+")
    assert with_meta.meta == {"2": ["V;PST", "V;PRS"], "0": ["walk", "go"]}
    assert _read(*names, source_columns=("2", "0"), column_separator="+").sources == ["V;PST+walk", "V;PRS+go"]
    copied = _read(*names, source_columns=("1",), target_columns=("1",))
    assert copied == Examples(["walked", "goes"], [("walked",), ("goes",)])


def test_named_columns_of_a_tsv(write):
    row = ("de", "en", "domain")
    names = write(a_tsv=_tsv([row, ("eins", "one", "x")]), b_tsv=_tsv([row, ("zwei", "two", "y")]))
    found = _read(*names, header=True, source_columns=("en",), target_columns=("de",), meta_columns=("domain",))
    assert found == Examples(["one", "two"], [("eins",), ("zwei",)], {"domain": ["x", "y"]})
    with pytest.raises(InputError, match=r"a\.tsv: has no column 'fr'; its header has 'de', 'en', 'domain'"):
        _read(*names, header=True, source_columns=("fr",))
    (other,) = write(c_tsv=_tsv([("en", "de", "domain"), ("one", "eins", "x")]))
    with pytest.raises(InputError, match=r"c\.tsv: its header .* differs from that of the first file"):
        _read(names[0], other, header=True, source_columns=("en",), target_columns=("de",))


def test_a_header_without_chosen_columns(write):
    assert _read(*write(a_tsv="de\ten\neins\tone\n"), header=True) == Examples(["eins"], [("one",)])


def test_columns_that_a_tsv_lacks(write):
    names = write(a_tsv=_tsv(_PAIRS))
    with pytest.raises(InputError, match=r"a\.tsv: has no column '2'; line 1 has 2: 'eins\\tone'; give numbers from 0"):
        _read(*names, target_columns=("2",))
    with pytest.raises(InputError, match=r"has no column 'en'; .*config\.data\.text\.header=True"):
        _read(*names, target_columns=("en",))


def test_empty_shards_are_skipped(write):
    names = write(a_tsv="", b_tsv=_tsv(_PAIRS), c_tsv="", d_jsonl="", e_jsonl=_lines(map(json.dumps, _OBJECTS)))
    assert _read(*names[:3]) == _read(*names[:3], source_columns=("0",)) == _EXAMPLES
    assert _read(*names[3:]) == _EXAMPLES


def test_nested_fields_and_meta(write):
    rows = [{"t": {"de": "eins", "en": "one"}, "year": 2001}, {"t": {"de": "zwei", "en": "two"}, "year": 1999}]
    names = write(a_jsonl=_lines(map(json.dumps, rows)), a_parquet=_parquet(pa.Table.from_pylist(rows)))
    for name in names:
        found = _read(name, source_columns=("t/de",), target_columns=("t/en",), meta_columns=("year",))
        assert found == Examples(["eins", "zwei"], [("one",), ("two",)], {"year": ["2001", "1999"]})
        joined = _read(name, source_columns=("t/en", "t/de"), target_columns=("t/en",))
        assert joined.sources == ["one eins", "two zwei"]


def test_fields_that_a_parquet_file_lacks(write):
    (name,) = write(a_parquet=_parquet({"source": ["a"], "target": [1], "refs": [["x"]]}))
    with pytest.raises(InputError, match=r"a\.parquet: has no field 'en'; its text fields are 'source'"):
        _read(name, target_columns=("en",))
    with pytest.raises(InputError, match=r"a\.parquet: field 'target' is no text but int64; its text fields are"):
        _read(name)
    with pytest.raises(InputError, match=r"a\.parquet: field 'refs' is no single value but list<"):
        _read(name, target_columns=("source",), meta_columns=("refs",))


def test_damaged_parquet(write):
    whole = _parquet({"source": ["a"] * 99, "target": ["b"] * 99})
    for damaged in (b"text", whole[:-1], whole[:20]):
        with pytest.raises(InputError, match=r"a\.parquet: is no complete Parquet file"):
            _read(*write(a_parquet=damaged))


def test_plain_text(write):
    names = write(a_txt="one\ntwo\n", b_txt="three\n")
    assert _read(names[0]) == Examples(["one", "two"], [(), ()])
    assert _read(*names, format="lines") == Examples(["one", "two", "three"], [(), (), ()])
    assert _read(*names, format="lines").pairs() == ([], [])


def test_tables_without_targets(write):
    names = write(a_jsonl='{"text": "one"}\n', b_tsv="one\nt\nwo\n")
    assert _read(names[0], source_columns=("text",), with_targets=False) == Examples(["one"], [()])
    assert _read(names[1], with_targets=False) == Examples(["one", "t", "wo"], [(), (), ()])


def test_a_format_overrules_extensions(write):
    names = write(a_tsv="eins\nzwei\n", b_tsv="one\ntwo\n", a_txt=_lines(map(json.dumps, _OBJECTS)))
    assert _read(*names[:2], format="parallel") == Examples(["eins", "zwei"], [("one",), ("two",)])
    assert _read(names[2], format="jsonl") == _EXAMPLES
    with pytest.raises(InputError, match=r"must be two parallel files for format=parallel, not 3"):
        _read(*names, format="parallel")


def test_files_of_different_kinds(write):
    names = write(a_tsv="a\tb\n", b_jsonl="{}\n", c_txt="")
    for some, kinds in ((names[:2], "'.jsonl', '.tsv'"), (names[::2], "'.tsv', '.txt'")):
        with pytest.raises(InputError, match=rf"train: has files of different kinds: {kinds}; name files of one kind"):
            _read(*some)


def test_three_files_without_a_known_extension(write):
    with pytest.raises(InputError, match=r"not 3 files; .* set config\.data\.text\.format"):
        _read(*write(a="", b="", c=""))


def test_equal_sources_are_merged_only_where_it_is_asked_for(write):
    names = write(a_tsv=_tsv([("lead", "L IY D", "x"), ("read", "R IY D", "y"), ("lead", "L EH D", "z")]))
    columns = {"source_columns": ("0",), "meta_columns": ("2",)}
    assert _read(*names, **columns).sources == ["lead", "read", "lead"]
    merged = _read(*names, group_references=True, **columns)
    assert merged == Examples(["lead", "read"], [("L IY D", "L EH D"), ("R IY D",)], {"2": ["x", "y"]})


# A good row, the bad one, and two good ones.
_BAD_TSV = {
    "wrong number of columns": (b"only", "1 tab-separated columns instead of 2: 'only'"),
    "wrong number of columns ": (b"a\tb\tc", "3 tab-separated columns instead of 2"),
    "invalid UTF-8": ("a\tß".encode("latin1"), r"not valid UTF-8 \(b'\\xdf'\)"),
    "empty source": (b" \tx", "has an empty source"),
    "empty target": (b"x\t", "has an empty target"),
}
_BAD_JSON = {
    "missing field": (b'{"source": "x"}', "has no value in field 'target'"),
    "missing field ": (b'{"source": null, "target": "x"}', "has no value in field 'source'"),
    "field that is no text": (b'{"source": "x", "target": ["y"]}', r"field 'target' is no text but \['y'\]"),
    "invalid JSON": (b"{", "is no JSON object: .*"),
    "invalid JSON ": (b"[1]", r"is no JSON object: '\[1\]'"),
    "invalid JSON  ": (b"", "is no JSON object: .*"),
    "invalid UTF-8": (b'{"source": "x", "target": "\\ud800"}', "field 'target' is no valid Unicode text"),
    "invalid UTF-8 ": (b'{"source": "x", "target": "\xff"}', "not valid UTF-8"),
    "empty target": (b'{"source": "x", "target": ""}', "has an empty target"),
}


@pytest.mark.parametrize(
    ("good", "cases", "name"),
    [("{0}\t{0}", _BAD_TSV, "a_tsv"), ('{{"source": "{0}", "target": "{0}"}}', _BAD_JSON, "a_jsonl")],
)
def test_bad_rows_of_tables(write, good, cases, name):
    for reason, (bad, message) in cases.items():
        lines = [*(good.format(i).encode() for i in range(4)), bad, good.format(4).encode()]
        (file,) = write(**{name: b"\n".join(lines) + b"\n"})
        with pytest.raises(InputError, match=rf"^{file}:5: {message}.*; fix it, or set config\.data\.on_bad_row='dro"):
            _read(file)
        found = _read(file, policy="drop")
        assert found.sources == list("01234")
        (dropped,) = found.dropped
        assert (dropped.reason, dropped.count, dropped.first) == (reason.strip(), 1, f"{file}:5")
        assert list(dropped.places()) == [f"{file}:5"]


def test_bad_rows_of_parquet(write):
    raw = pa.array([b"a", b"\xff", b"c", None, b"e", b" "]).view(pa.string())
    (name,) = write(a_parquet=_parquet({"source": raw, "target": list("uvwxyz"), "m": [1, 2, None, 4, 5, 6]}))
    found = _read(name, policy="drop", meta_columns=("m",))
    assert (found.sources, found.references, found.meta) == (["a", "e"], [("u",), ("y",)], {"m": ["1", "5"]})
    assert [(rows.reason, list(rows.places())) for rows in found.dropped] == [
        ("invalid UTF-8", [f"{name}:2"]), ("missing field", [f"{name}:3", f"{name}:4"]), ("empty source", [f"{name}:6"])
    ]  # fmt: skip
    with pytest.raises(InputError, match=rf"^{name}:2: field 'source' is not valid UTF-8 \(b'\\xff'\)"):
        _read(name)


@pytest.mark.parametrize(
    ("bad", "place", "reason"),
    [
        (("", "one"), "a.de:3", "empty source"),
        (("eins", "\u3000 "), "a.en:3", "empty target"),
        ((b"\xff", "one"), "a.de:3", "invalid UTF-8"),
        (("eins", b"\xff"), "a.en:3", "invalid UTF-8"),
    ],
)
def test_bad_rows_of_parallel_files(write, bad, place, reason):
    bad = [text.encode() if isinstance(text, str) else text for text in bad]
    names = write(a_de=b"a longer line\na\n" + bad[0] + b"\nb\n", a_en=b"A\nA\n" + bad[1] + b"\nB\n")
    with pytest.raises(InputError, match=rf"{place}: "):
        _read(*names)
    found = _read(*names, policy="drop")
    assert (found.sources, found.references) == (["a longer line", "a", "b"], [("A",), ("A",), ("B",)])
    (dropped,) = found.dropped
    assert (dropped.reason, dropped.first.endswith(place)) == (reason, True)


def test_rows_are_counted_by_reason_and_numbered_by_file(write):
    names = write(a_tsv="a\tb\nbad\n\tx\n", b_tsv="worse\nc\td\nx\n")
    found = _read(*names, policy="drop")
    assert found.sources == ["a", "c"]
    assert [(rows.reason, list(rows.places())) for rows in found.dropped] == [
        ("wrong number of columns", [f"{names[0]}:2", f"{names[1]}:1", f"{names[1]}:3"]),
        ("empty source", [f"{names[0]}:3"]),
    ]
    assert str(found.dropped[0]).startswith(
        f"3 rows dropped, wrong number of columns; the first is {names[0]}:2: 1 tab"
    )


def test_lines_are_numbered_behind_a_header(write):
    names = write(a_tsv="de\ten\neins\tone\nbad\n")
    with pytest.raises(InputError, match=r"a\.tsv:3: 1 tab-separated columns"):
        _read(*names, header=True)


def test_empty_texts_of_runs_of_earlier_versions(write):
    names = write(a_de="a\n\n", a_en="\nb\n", a_tsv="a\t\n\tb\n")
    for files_ in (names[:2], names[2:]):
        assert _read(*files_, policy="keep_empty") == Examples(["a", ""], [("",), ("b",)])
    with pytest.raises(InputError, match=r"b\.tsv:2: 1 tab-separated columns"):
        _read(*write(b_tsv="a\tb\n\n"), policy="keep_empty")
