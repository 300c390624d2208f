"""Rows of files one by one, with every row that can't be read named, instead of stopping at the first as training's reader does."""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.data.doctor.checks import kind_in_words
from tunesmith.data.doctor.findings import Finding
from tunesmith.data.inspection import check_exists, kind_of, look_at, open_bytes
from tunesmith.data.json_rows import iterate_json, json_shape
from tunesmith.data.named_rows import NamedRows, RowSource
from tunesmith.errors import DataError

#: A cell of a table may be as long as a document; csv's own limit is 128 KiB.
MOST_CELL_BYTES = 1 << 28
_LINE_FIX = 'Write one JSON object a line, e.g. {"text": "…", "label": "…"}'
_UTF8_FIX = "Save the file as UTF-8, or mend it: tunesmith data clean"


@dataclass(frozen=True)
class FileRow:
    """A row that could be read.

    Attributes:
        row: its number from 1.
        line: where it begins in a text file.
        values: its columns.
        decoded: whether it is in the fallback encoding.
    """

    row: int
    line: int | None
    values: dict[str, Any]
    decoded: bool = False


def read_rows(path: RowSource, *, fallback: str | None = None) -> Iterator[FileRow | Finding]:
    """Yield the rows of a file in order, and a finding in the place of each that can't be read.

    Args:
        path: JSON (lines, a list, an object that holds one), CSV, TSV, text (``.gz`` too), Parquet or Arrow; or rows that have a name
            instead of a file.
        fallback: the encoding of lines that are not UTF-8, e.g. ``cp1252``; without one they can't be read.

    Raises:
        DataError: when there is no such file, or its type isn't known.
    """
    if isinstance(path, NamedRows):
        yield from (FileRow(row, None, values) for row, values in enumerate(path, start=1))
        return
    check_exists(path)
    kind = kind_of(path)
    if kind is None:
        look_at(path)  # raises, with the types that are known
    if kind in ("parquet", "arrow"):
        yield from _columnar(path)
        return
    try:
        yield from {"json": _json, "csv": _table, "text": _text}[kind or "text"](path, fallback)
    except (OSError, EOFError, zlib.error) as error:  # a .gz that is none or was cut off; a file that went away
        yield Finding("unreadable_row", "error", f"the file can't be read: {error}", "Restore it from a copy", str(path))


def _json(path: Path, fallback: str | None) -> Iterator[FileRow | Finding]:
    try:
        shape = json_shape(path)
    except RecursionError:  # brackets without end in the first line
        shape = "lines"
    # In a file of lines, a first line that is broken must not make one object of all.
    if shape == "lines" or (shape == "object" and {".jsonl", ".ndjson"} & set(path.suffixes)):
        yield from _json_lines(path, fallback)
        return
    row = 0
    try:
        for row, values in enumerate(iterate_json(path, shape), start=1):
            yield FileRow(row, None, values)
    except DataError as error:
        yield Finding("unreadable_row", "error", _without_place(error, path), error.fix or "", str(path), row + 1)
    except UnicodeDecodeError as error:
        yield Finding("wrong_encoding", "error", f"what follows is not UTF-8 ({error.reason})", _UTF8_FIX, str(path), row + 1)


def _without_place(error: DataError, path: Path) -> str:
    message = error.message.removeprefix(f"{path}: ")
    return message.removeprefix(f"row {error.row}: ") if error.row is not None else message


def _json_lines(path: Path, fallback: str | None) -> Iterator[FileRow | Finding]:
    for found in _text_lines(path, fallback):
        if isinstance(found, Finding):
            yield found
            continue
        row, line, text, decoded = found
        values, reason = _json_object(text)
        if values is None:
            yield Finding("unreadable_row", "error", reason, _LINE_FIX, str(path), row, line)
        else:
            yield FileRow(row, line, values, decoded)


def _text_lines(path: Path, fallback: str | None) -> Iterator[tuple[int, int, str, bool] | Finding]:
    """Yield row, line, text and whether the fallback encoding was needed, of each line that isn't blank."""
    row = 0
    with open_bytes(path) as file:
        for line, content in enumerate(file, start=1):
            if not content.strip():
                continue
            row += 1
            text, decoded = _decoded(content, fallback, first=line == 1)
            if text is None:
                yield Finding("wrong_encoding", "error", _not_utf8(content), _UTF8_FIX, str(path), row, line)
            else:
                yield row, line, text, decoded


def _decoded(content: bytes, fallback: str | None, *, first: bool) -> tuple[str | None, bool]:
    """Return a line's text, None when it is not UTF-8, and whether the fallback encoding was needed."""
    try:
        return content.decode("utf-8-sig" if first else "utf-8"), False
    except UnicodeDecodeError:
        return (content.decode(fallback, errors="replace") if fallback else None), fallback is not None


def _not_utf8(content: bytes) -> str:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{content[error.start]:02x} at position {error.start + 1} of the line"
    return "not UTF-8"


def _json_object(text: str) -> tuple[dict[str, Any] | None, str]:
    """Return the object that a line holds, or None and why there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}"
    return (value, "") if isinstance(value, dict) else (None, f"it is {kind_in_words(value)}, not an object")


def _table(path: Path, fallback: str | None) -> Iterator[FileRow | Finding]:
    csv.field_size_limit(MOST_CELL_BYTES)
    # Bytes that are no UTF-8 come through as lone surrogates, so that they can be named by row.
    with io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        first = file.readline()
        delimiter = "\t" if ".tsv" in path.suffixes else max((",", ";", "\t", "|"), key=first.count)
        file.seek(0)
        table = csv.reader(file, delimiter=delimiter)
        header = [name.strip() or f"unnamed {number}" for number, name in enumerate(next(table, []), start=1)]
        row, line = 0, table.line_num + 1
        while True:
            try:
                cells = next(table)
            except StopIteration:
                return
            except csv.Error as error:
                row += 1
                yield Finding("unreadable_row", "error", f"not a row of a table: {error}", "Mend the quotes", str(path), row, line)
                line = table.line_num + 1
                continue
            if cells:
                row += 1
                yield _table_row(cells, header, str(path), row, line, fallback)
            line = table.line_num + 1


def _table_row(cells: list[str], header: list[str], file: str, row: int, line: int, fallback: str | None) -> FileRow | Finding:
    foreign = any("\udc80" <= char <= "\udcff" for cell in cells if not cell.isascii() for char in cell)
    if foreign and fallback is None:
        return Finding("wrong_encoding", "error", "not UTF-8", _UTF8_FIX, file, row, line)
    if foreign:
        cells = [cell.encode("utf-8", "surrogateescape").decode(fallback or "", errors="replace") for cell in cells]
    if len(cells) > len(header):
        message = f"it has {len(cells)} cells, the header {len(header)}: {', '.join(header)}"
        return Finding("unreadable_row", "error", message, 'Put cells that contain the delimiter in "…"', file, row, line)
    return FileRow(row, line, dict(zip(header, cells, strict=False)), foreign)


def _text(path: Path, fallback: str | None) -> Iterator[FileRow | Finding]:
    for found in _text_lines(path, fallback):
        if isinstance(found, Finding):
            yield found
        else:
            row, line, text, decoded = found
            yield FileRow(row, line, {"text": text.rstrip("\r\n")}, decoded)


def _columnar(path: Path) -> Iterator[FileRow | Finding]:
    from tunesmith.data.columns import name_class_labels
    from tunesmith.data.reading import read_file

    try:
        rows = name_class_labels(read_file(path))
    except DataError as error:
        yield Finding("unreadable_row", "error", _without_place(error, path), error.fix or "", str(path))
        return
    for row, values in enumerate(rows, start=1):
        yield FileRow(row, None, dict(values))
