"""Reading: every row that can't be read is named with its line, in every kind of file, and the others come through."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.doctor.findings import Finding
from tunesmith.data.doctor.reading import FileRow, read_rows
from tunesmith.errors import DataError

LATIN = "caf\xe9".encode("latin-1")


def read(
    folder: Path, name: str, content: str | bytes, **options: Any
) -> tuple[list[dict[str, Any]], list[tuple[str, int | None, int | None]]]:
    """Values of the rows, and (check, row, line) of what can't be read."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = list(read_rows(path, **options))
    good = [one.values for one in found if isinstance(one, FileRow)]
    return good, [(one.check, one.row, one.line) for one in found if isinstance(one, Finding)]


def test_lines_of_json(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"a": 1}\n\n{oops}\n[1]\n{"a": "' + LATIN + b'"}\n{"a": 2}'
    rows, bad = read(tmp_path, "a.jsonl", content)
    assert rows == [{"a": 1}, {"a": 2}]
    assert bad == [("unreadable_row", 2, 3), ("unreadable_row", 3, 4), ("wrong_encoding", 4, 5)]


def test_a_broken_first_line_is_a_line(tmp_path: Path) -> None:
    rows, bad = read(tmp_path, "a.jsonl", '{"a": 1,\n{"a": 2}\n')
    assert (rows, bad) == ([{"a": 2}], [("unreadable_row", 1, 1)])


def test_nesting_without_end_is_a_row_that_cant_be_read(tmp_path: Path) -> None:
    rows, bad = read(tmp_path, "a.jsonl", '{"a": ' + "[" * 100_000 + '\n{"a": 2}\n')
    assert (rows, bad) == ([{"a": 2}], [("unreadable_row", 1, 1)])


def test_a_list_stops_where_it_breaks(tmp_path: Path) -> None:
    assert read(tmp_path, "a.json", json.dumps([{"a": 1}, {"a": 2}])) == ([{"a": 1}, {"a": 2}], [])
    assert read(tmp_path, "a.json", '[{"a": 1}, {"a": oops}]') == ([{"a": 1}], [("unreadable_row", 2, None)])
    assert read(tmp_path, "a.json", '{"data": [{"a": 1}]}') == ([{"a": 1}], [])
    assert read(tmp_path, "a.json", '[{"a": 1}, 7]') == ([{"a": 1}], [("unreadable_row", 2, None)])


def test_tables(tmp_path: Path) -> None:
    content = b'a,b\n1,2\n1,2,3\n"two\nlines",' + LATIN + b"\nx\n\n5,6\n"
    rows, bad = read(tmp_path, "a.csv", content)
    assert rows == [{"a": "1", "b": "2"}, {"a": "x"}, {"a": "5", "b": "6"}]
    assert bad == [("unreadable_row", 2, 3), ("wrong_encoding", 3, 4)]
    assert read(tmp_path, "a.tsv", "a\tb\n1\t2\n") == ([{"a": "1", "b": "2"}], [])


def test_texts(tmp_path: Path) -> None:
    rows, bad = read(tmp_path, "a.txt", b"one\n\n" + LATIN + b"\ntwo\r\n")
    assert (rows, bad) == ([{"text": "one"}, {"text": "two"}], [("wrong_encoding", 2, 3)])


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", b'{"a": "' + LATIN + b'"}'), ("a.csv", b"a\n" + LATIN + b"\n"), ("a.txt", LATIN)]
)
def test_lines_in_another_encoding(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (row,) = read_rows(tmp_path / name, fallback="cp1252")
    assert isinstance(row, FileRow)
    assert (list(row.values.values()), row.decoded) == (["café"], True)


def test_packed_files(tmp_path: Path) -> None:
    assert read(tmp_path, "a.jsonl.gz", gzip.compress(b'{"a": 1}\n{oops\n')) == ([{"a": 1}], [("unreadable_row", 2, 2)])
    _, bad = read(tmp_path, "b.csv.gz", gzip.compress(b"a\n" + b"1\n" * 9999)[:-9])
    assert bad == [("unreadable_row", None, None)]
    assert read(tmp_path, "c.jsonl.gz", b"not packed") == ([], [("unreadable_row", None, None)])


def test_columnar_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet")) == [FileRow(1, None, {"a": 1}), FileRow(2, None, {"a": 2})]
    assert read(tmp_path, "b.parquet", b"no parquet") == ([], [("unreadable_row", None, None)])


def test_files_that_arent_there_or_unknown(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(read_rows(tmp_path / "a.jsonl"))
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(DataError, match=r"file type '.xyz' isn't known"):
        list(read_rows(tmp_path / "a.xyz"))
